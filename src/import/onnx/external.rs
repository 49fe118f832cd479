//! Data of tensors in files beside the model: PyTorch since 2.9 writes all weights so.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::proto::TensorProto;
use crate::error::{Error, Result};

/// Where the files beside a model are, if it came from a file.
#[derive(Debug, Clone, Default)]
pub struct Files(Option<PathBuf>);

impl Files {
    /// Those beside a model's file.
    pub fn beside(model: &Path) -> Self {
        let folder = model.parent().filter(|folder| !folder.as_os_str().is_empty());
        Self(Some(folder.unwrap_or(Path::new(".")).into()))
    }

    /// The data of a tensor in a file, `expected` bytes of it; nothing else is read.
    pub fn read(&self, name: &str, proto: &TensorProto, expected: usize) -> Result<Vec<u8>> {
        let wrong = |what: String| Error::Onnx(format!("`{name}`: {what}"));
        let entry = |key: &str| proto.external_data.iter().find(|entry| entry.key == key).map(|entry| &*entry.value);
        let Some(location) = entry("location") else { return Err(wrong("its data lie in a file that is not named".into())) };
        let number = |key: &str| -> Result<Option<u64>> {
            let parsed =
                entry(key).map(|text| text.parse().map_err(|_| wrong(format!("external data: {key} `{text}` is no number"))));
            parsed.transpose()
        };
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        if !(proto.raw_data.is_empty() && proto.float_data.is_empty()) {
            return Err(wrong(format!("has data of its own and some in `{location}`")));
        }
        let path = self.path(location).map_err(|what| wrong(format!("its data lie in `{location}`: {what}")))?;
        let failed = |error: std::io::Error| wrong(format!("its data lie in `{location}`: {error}"));
        let mut file = std::fs::File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        // Without a length they go to the end of the file.
        let length = length.unwrap_or(size.saturating_sub(offset));
        if offset.checked_add(length).is_none_or(|end| end > size) {
            let hint = if is_pointer(&file) { " is a pointer of Git LFS (fetch the file itself: git lfs pull), it" } else { "" };
            return Err(wrong(format!("its data are {length} bytes from {offset} on, but `{location}`{hint} has {size}")));
        }
        if length != expected as u64 {
            return Err(wrong(format!("its data in `{location}` are {length} bytes, its shape needs {expected}")));
        }
        let mut bytes = vec![0; expected];
        file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut bytes)).map_err(failed)?;
        Ok(bytes)
    }

    /// A path below the model's folder, and that of a plain file in it when all links are followed.
    fn path(&self, location: &str) -> Result<PathBuf, String> {
        if cfg!(target_arch = "wasm32") {
            return Err("a browser has no files beside a model; save the model with its weights within".into());
        }
        let Some(folder) = &self.0 else {
            return Err("only a model that is opened by its path has files beside it".into());
        };
        let relative = Path::new(location);
        let within = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !within || location.is_empty() || location.contains('\0') {
            return Err("a place outside the model's folder is not read".into());
        }
        let found = |path: &Path| path.canonicalize().map_err(|error| error.to_string());
        let (folder, path) = (found(folder)?, found(&folder.join(relative))?);
        if !path.starts_with(&folder) {
            return Err("a link out of the model's folder is not followed".into());
        }
        if !path.is_file() {
            return Err("not a regular file".into());
        }
        Ok(path)
    }
}

/// Whether a file is what Git LFS leaves in the place of one.
fn is_pointer(mut file: &std::fs::File) -> bool {
    const START: &[u8] = b"version https://git-lfs";
    let mut bytes = [0; START.len()];
    file.read_exact(&mut bytes).is_ok() && bytes == START
}
