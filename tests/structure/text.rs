//! Rust source without what is not code.

/// A file's text with comments and literals blanked, line by line as it was, and without modules of tests.
pub struct Code(String);

impl Code {
    pub fn new(text: &str) -> Self {
        Self(blank(text))
    }

    pub fn text(&self) -> &str {
        &self.0
    }

    /// Without `#[cfg(test)]` items.
    pub fn without_tests(mut self) -> Self {
        while let Some(start) = self.0.find("#[cfg(test)]") {
            let rest = &self.0[start..];
            // The end of the item: of its block, or its semicolon if that comes first.
            let open = rest.find('{').unwrap_or(rest.len());
            let semicolon = rest.find(';').unwrap_or(rest.len());
            let end = if semicolon < open { semicolon + 1 } else { open + block_len(&rest[open..]) };
            self.0.replace_range(start..start + end, "");
        }
        self
    }
}

/// Bytes of the block that a text begins with.
fn block_len(text: &str) -> usize {
    let mut depth = 0;
    for (at, byte) in text.bytes().enumerate() {
        depth += i32::from(byte == b'{') - i32::from(byte == b'}');
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

/// Name, first line and length of every function that has a body.
pub fn functions(code: &Code) -> Vec<(String, usize, usize)> {
    let (mut found, mut open, mut pending, mut depth) = (Vec::new(), Vec::new(), None, 0);
    for (at, line) in code.text().lines().enumerate() {
        let words: Vec<&str> = line.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty()).collect();
        if let (None, Some(name)) = (&pending, words.windows(2).find(|pair| pair[0] == "fn").map(|pair| pair[1])) {
            pending = Some((name.to_string(), at));
        }
        for byte in line.bytes() {
            match byte {
                b'{' => {
                    depth += 1;
                    open.extend(pending.take().map(|(name, start)| (name, start, depth)));
                }
                b'}' => {
                    if open.last().is_some_and(|(.., of)| *of == depth) {
                        let (name, start, _) = open.pop().unwrap();
                        found.push((name, start + 1, at + 1 - start));
                    }
                    depth -= 1;
                }
                b';' => pending = None,
                _ => {}
            }
        }
    }
    found
}

/// Blanks comments, strings and characters, keeps line breaks.
fn blank(text: &str) -> String {
    let (mut code, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(first) = rest.chars().next() {
        let after_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let len = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => string_len(rest),
            'r' if !after_word && rest[1..].trim_start_matches('#').starts_with('"') => raw_string_len(rest),
            '\'' => character_len(rest),
            _ => 0,
        };
        if len == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..len].chars().filter(|c| *c == '\n'));
            rest = &rest[len..];
        }
    }
    code
}

fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            _ => escaped = c == '\\' && !escaped,
        }
    }
    text.len()
}

fn raw_string_len(text: &str) -> usize {
    let hashes = text[1..].bytes().take_while(|byte| *byte == b'#').count();
    let end = format!("\"{}", "#".repeat(hashes));
    text[hashes + 2..].find(&end).map_or(text.len(), |at| hashes + 2 + at + end.len())
}

/// 0 of a lifetime.
fn character_len(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, c))) => text[at + c.len_utf8()..].find('\'').map_or(0, |end| at + c.len_utf8() + end + 1),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

#[test]
fn code_is_told_from_text() {
    let source = "fn a() { // {\n let _ = (\"{ \\\" fn b() {\", 'x', '\\'', r#\"}\"}\"#);\n let _: &'static str; }\n";
    let code = Code::new(source);
    assert_eq!(code.text().matches(['{', '}']).count(), 2, "{}", code.text());
    assert_eq!(functions(&code), [("a".to_string(), 1, 3)]);
    let code = Code::new("use a::b;\n#[cfg(test)]\nmod tests { use c::{d}; }\nfn after() {}\n#[cfg(test)]\nmod more;\n");
    assert_eq!(code.without_tests().text().split_whitespace().collect::<Vec<_>>(), ["use", "a::b;", "fn", "after()", "{}"]);
}
