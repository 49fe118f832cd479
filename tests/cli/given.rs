//! A run of the command, to be spoilt in one place.

use std::fs;
use std::path::PathBuf;

use crate::common::command::{Folder, Tensor, Tensors, fail, read, succeed, write};

/// What a run is given, to be spoilt in one place.
pub struct Given {
    pub folder: Folder,
    pub model: Tensors,
    pub input: Tensors,
    pub args: Vec<String>,
}

pub const T: usize = 4;
pub const B: usize = 3;
pub const I: usize = 2;
pub const H: usize = 5;

impl Given {
    /// A correct forward run of an LSTM on the reference.
    pub fn lstm() -> Self {
        let model = [
            ("weight_ih_l0", &[4 * H, I][..]),
            ("weight_hh_l0", &[4 * H, H]),
            ("bias_ih_l0", &[4 * H]),
            ("bias_hh_l0", &[4 * H]),
        ];
        let input = [("input", [T, B, I]), ("h0", [1, B, H]), ("c0", [1, B, H])];
        Self {
            folder: Folder::new(),
            model: model.iter().map(|(name, shape)| (name.to_string(), Tensor::some(shape))).collect(),
            input: input.iter().map(|(name, shape)| (name.to_string(), Tensor::some(shape))).collect(),
            args: vec!["--device".into(), "cpu".into()],
        }
    }

    pub fn backward() -> Self {
        let mut given = Self::lstm().input("d_output", Tensor::some(&[T, B, H]));
        given.args.push("--backward".into());
        given
    }

    pub fn model(mut self, name: &str, tensor: Tensor) -> Self {
        self.model.insert(name.into(), tensor);
        self
    }

    pub fn input(mut self, name: &str, tensor: Tensor) -> Self {
        self.input.insert(name.into(), tensor);
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        assert!(self.model.remove(name).or(self.input.remove(name)).is_some());
        self
    }

    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| arg.to_string()));
        self
    }

    pub fn command(&self) -> Vec<PathBuf> {
        let [model, input, output] =
            ["model.safetensors", "input.safetensors", "output.safetensors"].map(|n| self.folder.path(n));
        let args = ["run".into(), model, input, "--output".into(), output].into_iter();
        args.chain(self.args.iter().map(PathBuf::from)).collect()
    }

    pub fn write(&self) {
        write(&self.folder.path("model.safetensors"), &self.model);
        write(&self.folder.path("input.safetensors"), &self.input);
    }

    pub fn succeed(&self) -> Tensors {
        self.succeed_and_say().0
    }

    /// The results, and what the command said of them.
    pub fn succeed_and_say(&self) -> (Tensors, String) {
        self.write();
        let said = succeed(self.command());
        (read(&self.folder.path("output.safetensors")), said)
    }

    /// The run must fail with all of `named` in its line, write no output, and leave alone one that was there.
    pub fn fail(&self, named: &[&str]) {
        self.write();
        self.fail_as_written(named);
    }

    pub fn fail_as_written(&self, named: &[&str]) {
        let output = self.folder.path("output.safetensors");
        let entries = || fs::read_dir(&self.folder.0).unwrap().count();
        let before = entries();
        for existing in [None, Some("what was there before")] {
            if let Some(text) = existing {
                fs::write(&output, text).unwrap();
            }
            let line = fail(self.command());
            for name in named {
                assert!(line.contains(name), "expected {name} in: {line}");
            }
            assert_eq!(fs::read_to_string(&output).ok().as_deref(), existing, "{line}");
            assert_eq!(entries(), before + usize::from(existing.is_some()), "{line}");
        }
        fs::remove_file(output).unwrap();
    }
}
