//! Names of columns: as short as they differ.

use super::column::Column;

/// What a name gets where another is the same.
const PARTS: [fn(&Column) -> String; 7] = [
    |column| column.place.dtype.clone(),
    |column| if column.place.untuned { "untuned".into() } else { String::new() },
    |column| column.place.backend.clone(),
    |column| column.file.clone(),
    |column| column.place.driver.clone(),
    |column| column.host.commit.clone().unwrap_or_default(),
    |column| column.host.unix_time.map_or_else(String::new, date),
];

pub fn label(columns: &mut [Column]) {
    for column in columns.iter_mut() {
        let Column { program, place, .. } = &*column;
        let device = if program == "tidegate" { place.device.clone() } else { format!("{program}, {}", place.device) };
        column.label = if column.is_software() { format!("{device} (software)") } else { device };
    }
    for part in PARTS {
        let before: Vec<(String, String)> = columns.iter().map(|column| (column.label.clone(), part(column))).collect();
        for (column, (label, own)) in columns.iter_mut().zip(&before) {
            if before.iter().any(|(other, theirs)| other == label && theirs != own) && !own.is_empty() {
                column.label = format!("{label}, {own}");
            }
        }
    }
    // The same file given twice.
    for at in 1..columns.len() {
        let same = columns[..at].iter().filter(|other| other.label == columns[at].label).count();
        if same > 0 {
            columns[at].label = format!("{} ({})", columns[at].label, same + 1);
        }
    }
}

/// Day and minute of seconds since 1970 (Howard Hinnant's `civil_from_days`).
fn date(seconds: u64) -> String {
    let (days, minutes) = (seconds / 86_400 + 719_468, seconds % 86_400 / 60);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `date -u -d @N '+%F %R'` has them.
    #[test]
    fn dates() {
        for (seconds, text) in [(0, "1970-01-01 00:00"), (951_827_999, "2000-02-29 12:39"), (1_795_714_617, "2026-11-26 17:36")] {
            assert_eq!(date(seconds), text);
        }
    }
}
