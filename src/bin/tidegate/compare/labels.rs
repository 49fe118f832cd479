//! Names of columns: as short as they differ.

use super::column::Column;

/// What a name gets where another is the same.
const PARTS: [fn(&Column) -> String; 5] = [
    |column| column.place.dtype.clone(),
    |column| if column.place.untuned { "untuned".into() } else { String::new() },
    |column| column.place.backend.clone(),
    |column| column.file.clone(),
    |column| column.place.driver.clone(),
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
