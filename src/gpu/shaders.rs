//! The WGSL files of `shaders/`. Whoever makes a kernel includes its file by [`shader`]; a file names the files it needs in a line
//! `// needs: shared/edges shared/restore`, and they stand in the list here.

/// A file and its text, without those it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct File {
    /// Its path in `shaders/`, without the ending.
    pub name: &'static str,
    pub text: &'static str,
}

macro_rules! shader {
    ($name:literal) => {
        $crate::gpu::shaders::File {
            name: $name,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $name, ".wgsl")),
        }
    };
}
pub(crate) use shader;

/// Those that others need.
const NEEDED: [File; 18] = [
    shader!("shared/advance"),
    shader!("shared/call"),
    shader!("shared/call_into_workspace"),
    shader!("shared/clear"),
    shader!("shared/edges"),
    shader!("shared/floats"),
    shader!("shared/holds"),
    shader!("shared/kept_states"),
    shader!("shared/links"),
    shader!("shared/mask"),
    shader!("shared/restore"),
    shader!("shared/starts"),
    shader!("shared/step_backward"),
    shader!("shared/step_forward"),
    shader!("shared/team"),
    shader!("train/last_step"),
    shader!("train/loss_scale"),
    shader!("train/total"),
];

/// What begins the line of a file that names the files it needs.
const NEEDS: &str = "// needs: ";

/// A file that another needs. The names come from this crate alone.
fn needed(name: &str) -> File {
    let found = NEEDED.into_iter().find(|file| file.name == name);
    found.unwrap_or_else(|| panic!("no shader `{name}` that others need"))
}

/// Adds a file behind those it needs, each of them once.
pub(crate) fn add(files: &mut Vec<File>, file: File) {
    if files.contains(&file) {
        return;
    }
    needs(file).for_each(|needed| add(files, needed));
    files.push(file);
}

fn needs(file: File) -> impl Iterator<Item = File> {
    file.text.lines().filter_map(|line| line.strip_prefix(NEEDS)).flat_map(str::split_whitespace).map(needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needed_files_come_first_and_once() {
        let mut files = Vec::new();
        add(&mut files, shader!("recurrence/persistent_backward"));
        let of_mask = ["shared/edges", "shared/holds", "shared/links", "shared/mask"];
        let expected = [&of_mask[..], &["shared/kept_states", "shared/step_backward", "shared/floats", "shared/team"]].concat();
        let names: Vec<_> = files.iter().map(|file| file.name).collect();
        assert_eq!(names, [&expected[..], &["recurrence/persistent_backward"]].concat());
    }

    /// What stands in a file's line exists, and is needed by no other way round.
    #[test]
    fn needs_have_no_circles() {
        for file in NEEDED {
            let mut files = Vec::new();
            add(&mut files, file);
            for (at, file) in files.iter().enumerate() {
                assert!(needs(*file).all(|needed| files[..at].contains(&needed)), "{}", file.name);
            }
        }
    }
}
