//! The one error type. Every message names the thing at fault and, where there are two, both numbers.

use std::fmt;

/// Everything that can go wrong in tidegate.
#[expect(missing_docs, reason = "each field is named in its variant's message")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No adapter matched the request.
    #[error("no suitable GPU adapter: {0}")]
    NoAdapter(#[from] wgpu::RequestAdapterError),
    /// The adapter refused to give a device.
    #[error("device request failed: {0}")]
    NoDevice(#[from] wgpu::RequestDeviceError),
    /// A configuration or a call that means nothing, such as `hidden_size` 0, or a step without a batch.
    #[error("{0}")]
    Config(String),
    /// A tensor of another shape than the network needs.
    #[error("`{name}`: expected shape {expected:?}, got {actual:?}")]
    Shape { name: String, expected: Vec<usize>, actual: Vec<usize> },
    /// A host slice of another length than its shape needs.
    #[error("`{name}`: expected {expected} values, got {actual}")]
    Length { name: String, expected: usize, actual: usize },
    /// A value outside its range, such as a sequence length above T.
    #[error("`{name}`: {value} is outside {min}..={max}")]
    Range { name: String, value: u64, min: u64, max: u64 },
    /// A name that is not known, with those that are.
    #[error("unknown {kind} `{name}`; known: {known}")]
    UnknownName { kind: &'static str, name: String, known: String },
    /// A tensor that the network needs and the file lacks.
    #[error("missing tensor `{name}`")]
    MissingTensor { name: String },
    /// A tensor that the network needs and the file lacks, with what the file has.
    #[error("missing tensor `{name}`; the file has {found}")]
    NotInFile { name: String, found: String },
    /// A file of another format than the one that is read, told by its first bytes, and what to do with it.
    #[error("not {expected} but {format}; {todo}")]
    OtherFormat { expected: &'static str, format: &'static str, todo: &'static str },
    /// A tensor in the file that the network does not use.
    #[error("unused tensor `{name}`: the network has no such parameter")]
    UnusedTensor { name: String },
    /// A tensor beside the one network of a file that should hold nothing else.
    #[error(
        "unused tensor `{name}`: the file holds a network behind `{prefix}` and more; `Reading::with_prefix`, or the command's `--prefix`, \
         reads that one alone"
    )]
    OutsideNetwork { name: String, prefix: String },
    /// A tensor of a type that is not read here.
    #[error("`{name}`: expected dtype {expected}, got {actual}: convert it before it is saved")]
    Dtype { name: String, expected: &'static str, actual: String },
    /// A tensor in the file that belongs to a feature which is not there yet.
    #[error("`{name}`: {feature} is not supported")]
    Unsupported { name: String, feature: &'static str },
    /// The safetensors container itself is damaged.
    #[error("not a valid safetensors file: {0}")]
    Safetensors(#[from] safetensors::SafeTensorError),
    /// The header of a safetensors file contradicts itself or the file.
    #[error("not a valid safetensors file: {0}")]
    Header(String),
    /// An ONNX model that is damaged, or that asks for what is not supported.
    #[error("ONNX: {0}")]
    Onnx(String),
    /// A checkpoint of another training than this one, or of another format.
    #[error("checkpoint: {0}")]
    Checkpoint(String),
    /// A buffer binding that is too small.
    #[error("buffer `{name}`: needs {needed} bytes, got {actual}")]
    BufferSize { name: &'static str, needed: u64, actual: u64 },
    /// A buffer created without a usage that is needed here.
    #[error("buffer `{name}`: needs usage {needed:?}, has {actual:?}")]
    BufferUsage { name: &'static str, needed: wgpu::BufferUsages, actual: wgpu::BufferUsages },
    /// A binding offset that the device cannot bind.
    #[error("buffer `{name}`: offset {offset} is not a multiple of {alignment}")]
    BufferOffset { name: &'static str, offset: u64, alignment: u64 },
    /// A buffer that this plan needs and was not given.
    #[error("buffer `{name}` is needed: {reason}")]
    BufferMissing { name: &'static str, reason: &'static str },
    /// Bindings that overlap although one is written.
    #[error("`{written}` is written and overlaps `{other}`: bind memory of its own for it")]
    Aliasing { other: &'static str, written: &'static str },
    /// Bindings that do not overlap, but are parts of one `wgpu::Buffer` that one dispatch would read and write.
    #[error(
        "`{written}` and `{other}` are parts of one wgpu buffer, and one dispatch writes the first and reads the second, which WebGPU \
         forbids: bind a buffer of its own for one of them"
    )]
    SameBuffer { other: &'static str, written: &'static str },
    /// The device is too small for this shape.
    #[error("limit {limit}: needs {needed}, has {actual}")]
    Limit { limit: Limit, needed: u64, actual: u64 },
    /// A [`Tuning`](crate::Tuning) of another device than this.
    #[error("tuning of device `{actual}`, expected one of `{expected}`")]
    OtherDevice { expected: String, actual: String },
    /// A [`DeviceBuffer`](crate::DeviceBuffer) of another context's device.
    #[error("buffer `{name}` is of {theirs}, but used with {ours}: make it by the one that uses it")]
    OtherContext { name: String, theirs: String, ours: String },
    /// wgpu reported an error while objects were created; its text says which.
    #[error("wgpu: {0}")]
    Device(String),
    /// The device is gone; build a new [`Context`](crate::Context) and upload again.
    #[error("the device was lost")]
    DeviceLost,
    /// Reading a buffer back failed.
    #[error("readback failed: {0}")]
    Map(#[from] wgpu::BufferAsyncError),
    /// Waiting for the device failed or took too long.
    #[error("device poll failed: {0}")]
    Poll(#[from] wgpu::PollError),
    /// A number that is NaN or infinite where training cannot go on with it, and what to do.
    #[error("`{name}` is {value}, not a finite number: {todo}")]
    NonFinite { name: String, value: f64, todo: &'static str },
    /// A result too far from the truth.
    #[error("`{name}`: {measure} is {error:.3e}, allowed {allowed:.3e}")]
    Mismatch { name: String, measure: &'static str, error: f64, allowed: f64 },
    /// A verification that failed, and what was compared with what.
    #[error("{what}: {error}")]
    Verification { what: String, error: Box<Error> },
    /// A number that no map can show.
    #[error("`{name}` holds {value}, which has no colour")]
    NoColour { name: String, value: f64 },
    /// More memory than there is.
    #[error("the CPU reference needs about {gib:.1} GiB of memory for this")]
    Memory { gib: f64 },
    /// A cell that disagrees with itself: see [`check_cell`](crate::check::check_cell).
    #[error("cell `{cell}` failed its check: {what}")]
    Check { cell: String, what: String },
}

/// What there is too little of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// A limit of the device, by its name in [`wgpu::Limits`], and what meets it, such as "of `workspace`"; empty if nothing more is
    /// to be said.
    Device(&'static str, String),
    /// What kernels count in u32: of what; empty if of any buffer.
    Index(String),
    /// The offset of the last step index in a uniform buffer, on devices without immediates.
    StepOffset,
    /// Something that the device cannot do, and who needs it.
    Feature(&'static str),
    /// Room in a workgroup, or among those that run side by side, for the layout of a kernel.
    Layout(String),
    /// Elements of a buffer, and which product reads or writes beyond them.
    Elements(String),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, what) = match self {
            Self::Device(name, what) => (*name, what.as_str()),
            Self::Index(of) if of.is_empty() => ("u32 index", ""),
            Self::Index(of) => ("u32 index of", of.as_str()),
            Self::StepOffset => ("u32 dynamic offset of seq_len + 1", ""),
            Self::Feature(name) => (*name, ""),
            Self::Layout(what) => (what.as_str(), ""),
            Self::Elements(of) => ("elements of", of.as_str()),
        };
        f.write_str(name)?;
        if what.is_empty() { Ok(()) } else { write!(f, " {what}") }
    }
}

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Checks that a host slice holds as many values as its shape.
pub(crate) fn check_len(name: &str, expected: usize, actual: usize) -> Result<()> {
    if expected == actual { Ok(()) } else { Err(Error::Length { name: name.into(), expected, actual }) }
}
