//! Files of other formats, told by their first bytes, and the line of Python that makes a safetensors file of each.

use crate::error::{Error, Result};

const TORCH: &str = "import torch; from safetensors.torch import save_file; save_file({k: v.contiguous() for k, v in \
                     torch.load('FILE', map_location='cpu', weights_only=True).items()}, 'OUT.safetensors')";
const NPZ: &str = "import numpy as np; from safetensors.numpy import save_file; save_file({k: np.ascontiguousarray(v) for k, v in \
                   np.load('FILE').items()}, 'OUT.safetensors')";
const NPY: &str = "import numpy as np; from safetensors.numpy import save_file; save_file({'input': \
                   np.ascontiguousarray(np.load('FILE'))}, 'OUT.safetensors')";
const KERAS: &str = "import keras, numpy as np; from safetensors.numpy import save_file; save_file({f'l{k}.{w.name}': \
                     np.ascontiguousarray(w) for k, l in enumerate(l for l in keras.models.load_model('FILE').layers if hasattr(l, \
                     'return_sequences')) for w in l.weights}, 'OUT.safetensors')";
const PICKLE: &str = "import pickle, numpy as np; from safetensors.numpy import save_file; save_file({k: np.ascontiguousarray(v) for \
                      k, v in pickle.load(open('FILE', 'rb')).items()}, 'OUT.safetensors') (pickle runs what the file says: only \
                      for files that you trust; of torch.save's, torch.load in place of pickle.load)";
const ZIP: &str = "import zipfile; zipfile.ZipFile('FILE').extractall() (what it holds can then be converted)";
const ONNX: &str = "import onnx; print(onnx.load('FILE').graph.input) (`tidegate run` takes the model itself, under a name that ends \
                    in .onnx)";
const GGUF: &str = "from gguf import GGUFReader; import numpy as np; from safetensors.numpy import save_file; save_file({t.name: \
                    np.ascontiguousarray(t.data) for t in GGUFReader('FILE').tensors}, 'OUT.safetensors')";

/// Refuses what is plainly another format, by name.
pub(super) fn refuse(bytes: &[u8]) -> Result<()> {
    let Some((format, python)) = recognise(bytes) else { return Ok(()) };
    Err(Error::OtherFormat { format, python })
}

fn recognise(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    // The length of a safetensors header, and its first byte.
    if matches!(bytes, [_, _, _, _, 0, 0, 0, 0, b'{', ..]) {
        return None;
    }
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if starts(b"PK\x03\x04") || starts(b"PK\x05\x06") {
        return Some(of_zip(bytes));
    }
    if starts(b"\x89HDF\r\n\x1a\n") {
        return Some(("an HDF5 file, as Keras and h5py write", KERAS));
    }
    if starts(b"\x93NUMPY") {
        return Some(("an array of NumPy (.npy)", NPY));
    }
    if starts(b"GGUF") {
        return Some(("a GGUF file", GGUF));
    }
    match *bytes {
        // The protocol, and then a frame or an opcode that opens a container or a name.
        [0x80, 2..=5, b'\x95' | b'}' | b']' | b'c' | b'(' | b'\x8a' | b'\x8c' | b'X' | b'q', ..] => {
            Some(("a pickle, as torch.save wrote before PyTorch 1.6", PICKLE))
        }
        // Field 1, the version of the IR, then the producer's name or the graph.
        [0x08, 1..=20, 0x12 | 0x3a | 0x1a, ..] => Some(("an ONNX model", ONNX)),
        _ => None,
    }
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
