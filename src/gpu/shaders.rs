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
            text: {
                const WHOLE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $name, ".wgsl"));
                // What a page downloads is short; elsewhere a shader is what its author wrote.
                #[cfg(target_arch = "wasm32")]
                const TEXT: &str = {
                    const LEN: usize = $crate::gpu::shaders::shorten(WHOLE, &mut [0; WHOLE.len()]);
                    const SHORT: [u8; LEN] = {
                        let mut short = [0; LEN];
                        $crate::gpu::shaders::shorten(WHOLE, &mut short);
                        short
                    };
                    match str::from_utf8(&SHORT) {
                        Ok(text) => text,
                        Err(_) => panic!("lines are cut at comments, which are ASCII"),
                    }
                };
                #[cfg(not(target_arch = "wasm32"))]
                const TEXT: &str = WHOLE;
                TEXT
            },
        }
    };
}
pub(crate) use shader;

/// Writes a shader without comments, indentation and empty lines, and gives its length. Comments that mean something stay: those that
/// name needed files, and those that mark where generated lines go.
#[cfg(any(test, target_arch = "wasm32"))]
pub(crate) const fn shorten(whole: &str, short: &mut [u8]) -> usize {
    let whole = whole.as_bytes();
    let (mut at, mut len) = (0, 0);
    while at < whole.len() {
        let (line, mut start) = (at, at);
        while start < whole.len() && whole[start] == b' ' {
            start += 1;
        }
        let stays = begins(whole, start, MARKS.as_bytes()) || begins(whole, start, NEEDS.as_bytes());
        let mut end = if stays { line } else { start };
        while end < whole.len() && whole[end] != b'\n' && (stays || !begins(whole, end, b"//")) {
            short[len] = whole[end];
            (end, len) = (end + 1, len + 1);
        }
        while len > 0 && short[len - 1] == b' ' {
            len -= 1;
        }
        if len > 0 && short[len - 1] != b'\n' {
            short[len] = b'\n';
            len += 1;
        }
        at = end;
        while at < whole.len() && whole[at] != b'\n' {
            at += 1;
        }
        at += 1;
    }
    len
}

#[cfg(any(test, target_arch = "wasm32"))]
const fn begins(whole: &[u8], at: usize, with: &[u8]) -> bool {
    let mut i = 0;
    while i < with.len() {
        if at + i >= whole.len() || whole[at + i] != with[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Those that others need.
const NEEDED: [File; 21] = [
    shader!("shared/advance"),
    shader!("shared/call"),
    shader!("shared/call_into_workspace"),
    shader!("shared/clear"),
    shader!("shared/edges"),
    shader!("shared/floats"),
    shader!("shared/gradient_pairs"),
    shader!("shared/holds"),
    shader!("shared/kept_states"),
    shader!("shared/largest"),
    shader!("shared/links"),
    shader!("shared/mask"),
    shader!("shared/powers"),
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

/// What begins the comment of a line in whose place generated ones go.
#[cfg(any(test, target_arch = "wasm32"))]
const MARKS: &str = "// for every ";

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

    /// The same without comments and space around lines, and all that is replaced or read by this crate is still there.
    #[test]
    fn what_browsers_get_is_the_same_code() {
        let code = |text: &str| -> Vec<String> {
            let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default().trim().to_string());
            lines.filter(|line| !line.is_empty()).collect()
        };
        let comments = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| [NEEDS, MARKS].iter().any(|with| line.trim_start().starts_with(with)));
            lines.map(String::from).collect()
        };
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
        let folders = std::fs::read_dir(folder).unwrap().map(|folder| folder.unwrap().path());
        let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()));
        let (mut all, mut kept) = (0, 0);
        for file in files {
            let whole = std::fs::read_to_string(&file).unwrap();
            assert!(!whole.contains("/*"), "{}: comments are of one line", file.display());
            let mut bytes = vec![0; whole.len()];
            let len = shorten(&whole, &mut bytes);
            let short = str::from_utf8(&bytes[..len]).unwrap();
            assert_eq!(code(short), code(&whole), "{}", file.display());
            assert_eq!(comments(short), comments(&whole), "{}", file.display());
            assert_eq!(short.lines().count(), code(short).len() + comments(short).len(), "{}", file.display());
            assert!(short.ends_with('\n') && !short.contains("\n\n"), "{}", file.display());
            (all, kept) = (all + whole.len(), kept + len);
        }
        assert!(all > 100_000 && kept < all * 3 / 4, "{kept} of {all} bytes");
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
