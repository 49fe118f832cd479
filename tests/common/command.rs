//! Running the command and its files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tidegate::check::Tolerance;
use tidegate::{RnnConfig, SeqShape};

pub fn fixtures() -> PathBuf {
    super::path("tests/fixtures")
}

/// With a cache of this process's own: what it finds out must not reach the user's, nor the other way round.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let cache = std::env::temp_dir().join(format!("tidegate-cli-cache-{}", std::process::id()));
    command.env("XDG_CACHE_HOME", cache);
    command
}

pub fn tidegate<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    command().args(args).output().unwrap()
}

/// Runs what must succeed without a word on stderr (that no adapter was found would be one) but that it ran on a software adapter,
/// and gives its stdout.
pub fn succeed<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> String {
    let output = tidegate(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    let is_note = |line: &str| line.starts_with("tidegate: ran on ") && line.ends_with(", a software adapter: on the CPU");
    assert!(output.status.success() && stderr.lines().all(is_note), "{:?}: {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Runs what must fail with one line on stderr and nothing on stdout, and gives that line.
pub fn fail<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> String {
    let output = tidegate(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(matches!(output.status.code(), Some(1..127)), "{:?}: {stderr}", output.status);
    assert!(output.stdout.is_empty() && !stderr.contains("internal error"), "{stderr}");
    assert!(stderr.starts_with("tidegate: ") && stderr.ends_with('\n') && stderr.lines().count() == 1, "{stderr}");
    stderr
}

/// A folder of one test's own, gone at its end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("tidegate-cli-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A tensor of a file.
#[derive(Debug, Clone)]
pub struct Tensor {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Tensor {
    pub fn f32(shape: &[usize], values: impl IntoIterator<Item = f32>) -> Self {
        Self { dtype: Dtype::F32, shape: shape.into(), bytes: values.into_iter().flat_map(f32::to_le_bytes).collect() }
    }

    pub fn i32(values: &[i32]) -> Self {
        Self { dtype: Dtype::I32, shape: vec![values.len()], bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect() }
    }

    /// Values that differ, none of them large.
    pub fn some(shape: &[usize]) -> Self {
        Self::f32(shape, (0..shape.iter().product::<usize>()).map(|k| (k as f32 * 0.7).sin() * 0.5))
    }

    pub fn values(&self) -> Vec<f64> {
        match self.dtype {
            Dtype::F32 => self.bytes.as_chunks().0.iter().map(|&word| f32::from_le_bytes(word).into()).collect(),
            Dtype::F64 => self.bytes.as_chunks().0.iter().map(|&word| f64::from_le_bytes(word)).collect(),
            other => panic!("{other}"),
        }
    }

    pub fn narrowed(&self) -> Self {
        if self.dtype == Dtype::F64 { Self::f32(&self.shape, self.values().into_iter().map(|v| v as f32)) } else { self.clone() }
    }
}

pub type Tensors = BTreeMap<String, Tensor>;

pub fn read(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |t: TensorView<'_>| Tensor { dtype: t.dtype(), shape: t.shape().into(), bytes: t.data().into() };
    file.iter().map(|(name, t)| (name.into(), tensor(t))).collect()
}

pub fn write(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, t)| (name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap()));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Checks an output file against the truth: the same names and shapes, F32, each within the tolerance.
pub fn compare(case: &str, config: &RnnConfig, shape: SeqShape, truth: &Tensors, actual: &Tensors) {
    assert!(truth.keys().eq(actual.keys()), "{case}: expected {:?}, got {:?}", truth.keys(), actual.keys());
    for (name, truth) in truth {
        let actual = &actual[name];
        assert_eq!((actual.dtype, &actual.shape), (Dtype::F32, &truth.shape), "{case}: {name}");
        let values: Vec<f32> = actual.values().into_iter().map(|value| value as f32).collect();
        let tolerance = Tolerance::new(config, shape, name.starts_with("d_"));
        tolerance.compare(name, &truth.values(), &values).unwrap_or_else(|error| panic!("{case}: {error}"));
    }
}
