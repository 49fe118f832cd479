//! Files of other formats, told by their first bytes, and what makes a file of each that is read here.

use crate::error::{Error, Result};

/// The line that follows converts.
macro_rules! python {
    ($line:literal) => {
        concat!("this Python converts it: ", $line)
    };
}

const TORCH: &str = python!(
    "import torch; from safetensors.torch import save_file; save_file({k: v.contiguous() for k, v in torch.load('FILE', \
     map_location='cpu', weights_only=True).items()}, 'OUT.safetensors')"
);
const NPZ: &str = python!(
    "import numpy as np; from safetensors.numpy import save_file; save_file({k: np.ascontiguousarray(v) for k, v in \
     np.load('FILE').items()}, 'OUT.safetensors')"
);
const NPY: &str = python!(
    "import numpy as np; from safetensors.numpy import save_file; save_file({'input': np.ascontiguousarray(np.load('FILE'))}, \
     'OUT.safetensors')"
);
const KERAS: &str = python!(
    "import keras, numpy as np; from safetensors.numpy import save_file; save_file({f'l{k}.{w.name}': np.ascontiguousarray(w) for \
     k, l in enumerate(l for l in keras.models.load_model('FILE').layers if hasattr(l, 'return_sequences')) for w in l.weights}, \
     'OUT.safetensors')"
);
const PICKLE: &str = python!(
    "import pickle, numpy as np; from safetensors.numpy import save_file; save_file({k: np.ascontiguousarray(v) for k, v in \
     pickle.load(open('FILE', 'rb')).items()}, 'OUT.safetensors') (pickle runs what the file says: only for files that you trust; \
     of torch.save's, torch.load in place of pickle.load)"
);
const ZIP: &str = "unpack it (python -m zipfile -e FILE .): what it holds can then be converted";
const ONNX: &str = "`tidegate run` takes the model itself, under a name that ends in .onnx";
const GGUF: &str = python!(
    "from gguf import GGUFReader; import numpy as np; from safetensors.numpy import save_file; save_file({t.name: \
     np.ascontiguousarray(t.data) for t in GGUFReader('FILE').tensors}, 'OUT.safetensors')"
);
const FLAX: &str = python!(
    "import flax, numpy as np; from safetensors.numpy import save_file; save_file({k: np.ascontiguousarray(v) for k, v in \
     flax.traverse_util.flatten_dict(flax.serialization.msgpack_restore(open('FILE', 'rb').read()), sep='.').items()}, \
     'OUT.safetensors')"
);
const BURN: &str = "write its weights as PyTorch's from Burn: gates one below the other, i, f, g, o of an LSTM, r, z, n of a GRU";
const SAVED_MODEL: &str = "load the model and write its layers' weights under their names, or convert it: python -m tf2onnx.convert \
                           --saved-model FOLDER --output OUT.onnx";
const TFLITE: &str = "convert it: python -m tf2onnx.convert --tflite FILE --output OUT.onnx";
const LFS: &str = "fetch the file itself: git lfs pull";
const HTML: &str = "a server sent it in place of the file: fetch that anew";
const JSON: &str = "give the file of weights itself; of an index each .safetensors file that it names";
const PACKED: &str = "unpack it";

/// What a file should have been.
const SAFETENSORS: &str = "a safetensors file";

/// Refuses what is plainly another format than safetensors, by name.
pub(super) fn refuse(bytes: &[u8]) -> Result<()> {
    let Some((format, todo)) = recognise(bytes) else { return Ok(()) };
    Err(Error::OtherFormat { expected: SAFETENSORS, format, todo })
}

/// The error of a file that is no ONNX model, if its first bytes say what it is.
#[cfg(feature = "onnx")]
pub(super) fn instead_of_onnx(bytes: &[u8]) -> Option<Error> {
    let (format, todo) = if is_safetensors(bytes) {
        (SAFETENSORS, "`tidegate run` takes it under a name that does not end in .onnx")
    } else {
        recognise(bytes).filter(|(_, todo)| *todo != ONNX)?
    };
    Some(Error::OtherFormat { expected: "an ONNX model", format, todo })
}

/// The length of a header, and its first byte.
fn is_safetensors(bytes: &[u8]) -> bool {
    matches!(bytes, [_, _, _, _, 0, 0, 0, 0, b'{', ..])
}

fn recognise(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    if is_safetensors(bytes) {
        return None;
    }
    by_magic(bytes).or_else(|| by_first_fields(bytes)).or_else(|| by_text(bytes))
}

/// Formats that begin with a fixed word.
fn by_magic(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if starts(b"PK\x03\x04") || starts(b"PK\x05\x06") {
        return Some(of_zip(bytes));
    }
    let is_at = |at: usize, magic: &[u8]| bytes.get(at..at + magic.len()) == Some(magic);
    let magics: [(usize, &[u8], &str, &str); 10] = [
        (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras and h5py write", KERAS),
        (0, b"\x93NUMPY", "an array of NumPy (.npy)", NPY),
        (0, b"GGUF", "a GGUF file", GGUF),
        (4, b"TFL3", "a model of TFLite", TFLITE),
        (0, b"version https://git-lfs", "a pointer of Git LFS, which stands for the file", LFS),
        (0, b"\x1f\x8b\x08", "a file packed by gzip", PACKED),
        (0, b"\xfd7zXZ\0", "a file packed by xz", PACKED),
        (0, b"BZh", "a file packed by bzip2", PACKED),
        (0, b"\x28\xb5\x2f\xfd", "a file packed by zstd", PACKED),
        (257, b"ustar", "a tar archive", PACKED),
    ];
    magics.into_iter().find(|(at, magic, ..)| is_at(*at, magic)).map(|(.., format, todo)| (format, todo))
}

/// Formats that begin with the first fields of a message.
fn by_first_fields(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    const PICKLED: &str = "a pickle, as torch.save wrote before PyTorch 1.6";
    match *bytes {
        // The protocol, and then a frame or an opcode that opens a container or a name.
        [0x80, 2..=5, b'\x95' | b'}' | b']' | b'c' | b'(' | b'\x8a' | b'\x8c' | b'X' | b'q', ..] => Some((PICKLED, PICKLE)),
        // Protocol 0: a mark and a dict or list under the number 0, or the name of a class.
        [b'(', b'd' | b'l', b'p', b'0', b'\n', ..] => Some((PICKLED, PICKLE)),
        _ if bytes.starts_with(b"ccollections\n") || bytes.starts_with(b"cnumpy.") => Some((PICKLED, PICKLE)),
        // Field 1, a version, and field 2: of ONNX the producer's name, of TensorFlow's SavedModel a message that begins with its own
        // first field.
        [0x08, 1, 0x12, ref rest @ ..] if holds_message(rest) => Some(("a SavedModel of TensorFlow", SAVED_MODEL)),
        [0x08, 1..=20, 0x12 | 0x3a | 0x1a, ..] => Some(("an ONNX model", ONNX)),
        // A map of few entries whose first key is a short string.
        [0x81..=0x8f, 0xa1..=0xbf, ref key @ ..] if key.starts_with(b"metadata") || key.starts_with(b"item") => {
            Some(("a MessagePack file, as Burn's recorders write", BURN))
        }
        [0x81..=0x8f, 0xa1..=0xbf, first, ..] if first.is_ascii_alphabetic() => {
            Some(("a MessagePack file, as Flax writes", FLAX))
        }
        _ => None,
    }
}

/// Whether a length is followed by the tag of a message's first field and not by text.
fn holds_message(bytes: &[u8]) -> bool {
    let length = bytes.iter().take_while(|byte| **byte >= 0x80).count() + 1;
    bytes.get(length) == Some(&0x0a)
}

fn by_text(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let head = str::from_utf8(bytes.get(..bytes.len().min(64))?).ok()?.trim_start().to_ascii_lowercase();
    if head.starts_with("<!doctype html") || head.starts_with("<html") {
        return Some(("a page of HTML", HTML));
    }
    (head.starts_with('{') || head.starts_with("[{")).then_some(("a JSON file", JSON))
}

/// By the names that stand in the first entries of an archive.
fn of_zip(bytes: &[u8]) -> (&'static str, &'static str) {
    let head = &bytes[..bytes.len().min(4096)];
    let holds = |name: &[u8]| head.windows(name.len()).any(|window| window == name);
    if holds(b"data.pkl") || holds(b".storage") || holds(b"/byteorder") {
        ("a zip archive of PyTorch (.pt, .pth), as torch.save writes", TORCH)
    } else if holds(b".npy") {
        ("an archive of NumPy (.npz)", NPZ)
    } else if holds(b"model.weights.h5") || holds(b"config.json") {
        ("a model of Keras 3 (.keras)", KERAS)
    } else {
        ("a zip archive", ZIP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::{Model, open_safetensors};

    #[test]
    fn formats_are_named_with_the_line_that_converts_them() {
        let zip = |entry: &str| [b"PK\x03\x04".as_slice(), &[0; 26], entry.as_bytes(), &[0; 60]].concat();
        for (bytes, format, python) in [
            (zip("archive/data.pkl"), "PyTorch", "torch.load"),
            (zip("weight_ih_l0.npy"), ".npz", "np.load"),
            (zip("config.json"), ".keras", "keras.models.load_model"),
            (zip("a.txt"), "a zip archive;", "zipfile"),
            (b"\x89HDF\r\n\x1a\n\0\0\0\0\0\0\0\0".to_vec(), "HDF5", "keras"),
            (b"\x80\x02}q\0(X\x05\0\0\0".to_vec(), "pickle", "pickle.load"),
            (b"\x80\x04\x95\x10\0\0\0\0\0\0\0".to_vec(), "pickle", "pickle.load"),
            (b"\x93NUMPY\x01\0".to_vec(), ".npy", "np.load"),
            (b"\x08\x08\x12\x07pytorch\x1a".to_vec(), "ONNX", ".onnx"),
            (b"GGUF\x03\0\0\0".to_vec(), "GGUF", "GGUFReader"),
            (b"(dp0\nVa\np1\n(lp2\n".to_vec(), "pickle", "pickle.load"),
            (b"\x08\x01\x12\xa0\x1f\x0a\x12\x08\0".to_vec(), "SavedModel", "tf2onnx"),
            (b"\x08\x01\x12\x0apytorch 01\x1a".to_vec(), "ONNX", ".onnx"),
            (b"\x1c\0\0\0TFL3\0\0\0\0".to_vec(), "TFLite", "tf2onnx"),
            (b"version https://git-lfs.github.com/spec/v1\noid".to_vec(), "Git LFS", "git lfs pull"),
            (b"\x1f\x8b\x08\0\0\0\0\0\0\xff".to_vec(), "gzip", "unpack"),
            (b"\x28\xb5\x2f\xfd\0\0\0\0\0".to_vec(), "zstd", "unpack"),
            ([vec![0; 257], b"ustar\0".to_vec(), vec![0; 249]].concat(), "tar", "unpack"),
            (b"\x82\xa8metadata\x83".to_vec(), "Burn", "PyTorch's"),
            (b"\x81\xa6params\x81\xa6".to_vec(), "Flax", "msgpack_restore"),
            (b"<!DOCTYPE html><html>".to_vec(), "HTML", "anew"),
            (b"{\n \"metadata\": {\"total_size\": 3}}".to_vec(), "JSON", "index"),
        ] {
            for error in [open_safetensors(&bytes).unwrap_err(), Model::from_weights(&bytes, None).unwrap_err()] {
                let error = error.to_string();
                assert!(error.contains(format) && error.contains(python) && error.contains("not a safetensors file"), "{error}");
            }
        }
    }

    /// A header's length is none of them.
    #[test]
    fn safetensors_files_pass() {
        for length in (0..100_000_000u64).step_by(997).chain([0x12_0808, 0x95_0480, 0x0403_4b50]) {
            let bytes = [length.to_le_bytes().as_slice(), b"{\"a\":"].concat();
            assert!(recognise(&bytes).is_none(), "{length}");
        }
    }
}
