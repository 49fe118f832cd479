//! Text for terminals: its width, and numbers.

/// Columns of a terminal that everything fits, unless it is asked to be wide.
pub const WIDTH: usize = 80;

/// Lines of at most 80 columns, as far indented as the text is, the second and later ones a little more.
pub fn wrap(text: &str) -> String {
    let indent = text.len() - text.trim_start().len();
    let (mut all, mut line) = (String::new(), " ".repeat(indent));
    for (at, word) in text.split_whitespace().enumerate() {
        let is_first = at == 0;
        if !is_first && line.chars().count() + 1 + word.chars().count() > WIDTH {
            all += &format!("{line}\n{:1$}{word}", "", indent + 2);
            line = all.split_off(all.rfind('\n').map_or(0, |end| end + 1));
        } else {
            line += &format!("{}{word}", if is_first { "" } else { " " });
        }
    }
    all + &line + "\n"
}

/// Three digits.
pub fn short(value: f64) -> String {
    let digits = 2 - value.abs().log10().floor().clamp(-3.0, 2.0) as i32;
    format!("{value:.*}", digits as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_wrapped() {
        let text = wrap(&format!("  {}", "wörter ".repeat(30)));
        assert!(
            text.lines().count() == 3
                && text.lines().all(|line| line.chars().count() <= WIDTH && line.starts_with("  wö") | line.starts_with("    "))
        );
        assert_eq!(text.split_whitespace().count(), 30);
        assert_eq!(wrap("one two"), "one two\n");
    }

    #[test]
    fn three_digits() {
        let cases =
            [(0.0001234, "0.00012"), (0.1234, "0.123"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12346")];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
    }
}
