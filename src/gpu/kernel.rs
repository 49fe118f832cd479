//! Joins generated constants, bindings, activations, a cell and a kernel into one WGSL source, and builds its pipeline.

use std::fmt::Write;
use std::ops::Range;
use std::sync::{Mutex, OnceLock, PoisonError};

use wgpu::{BindGroupLayout, ComputePipeline, Device, PipelineCache};

use crate::cell::ShaderCell;
use crate::error::{Error, Result};
use crate::gpu::element::{Access, Element};
use crate::gpu::shaders::{self, File, shader};

/// Declares the uniform that a kernel sees as `sizes`, once for Rust and for WGSL. All fields are u32. Those of a schedule begin with
/// its layer's: `Name: LayerSizes { .. }` has them as the field `layer`, WGSL has all side by side.
macro_rules! sizes {
    ($(#[$meta:meta])* $name:ident $(: $base:ident)? { $($(#[$doc:meta])* $field:ident,)* }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
        pub(crate) struct $name { $(pub layer: $base,)? $($(#[$doc])* pub $field: u32,)* }

        impl $name {
            pub const OWN: &str = concat!($(stringify!($field), ": u32, ",)*);
            pub const WGSL: &[&str] = &[$($base::OWN,)? Self::OWN];
        }
    };
}
pub(crate) use sizes;

/// A storage buffer of a kernel: `name: array<..>` at binding 1, 2, ... of group 0, in order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Binding {
    pub name: &'static str,
    pub access: Access,
    array: Array,
}

/// What a kernel sees of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Array {
    /// Elements of that WGSL type.
    Plain(&'static str),
    /// vec4 of u32, each load and store of which reaches the memory that all workgroups see.
    Shared,
    /// Numbers that are read and written by the functions of [`Element::accessors`].
    Stored { element: Element, quads: bool },
}

impl Binding {
    /// An array of f32.
    pub fn new(name: &'static str, access: Access) -> Self {
        Self { name, access, array: Array::Plain("f32") }
    }

    pub fn read(name: &'static str) -> Self {
        Self::new(name, Access::Read)
    }

    pub fn write(name: &'static str) -> Self {
        Self::new(name, Access::ReadWrite)
    }

    pub fn of_u32(self) -> Self {
        Self { array: Array::Plain("u32"), ..self }
    }

    pub fn of_atomics(self) -> Self {
        Self { array: Array::Plain("atomic<u32>"), ..self }
    }

    /// By fours without atomics, for devices whose buffers may be coherent and volatile.
    pub fn of_shared_quads(self) -> Self {
        Self { array: Array::Shared, ..self }
    }

    /// Numbers that the kernel loads and stores by functions, as they may be f16.
    pub fn stored(self, element: Element) -> Self {
        Self { array: Array::Stored { element, quads: false }, ..self }
    }

    /// The same by fours.
    pub fn stored_quads(self, element: Element) -> Self {
        Self { array: Array::Stored { element, quads: true }, ..self }
    }

    fn wgsl(self, index: usize) -> String {
        let Self { name, access, array } = self;
        let mode = if access == Access::Read { "read" } else { "read_write" };
        let declare = |ty| format!("@group(0) @binding({index}) var<storage, {mode}> {name}: array<{ty}>;\n");
        match array {
            Array::Plain(ty) => declare(ty),
            Array::Shared => {
                format!("@group(0) @binding({index}) @coherent @volatile var<storage, {mode}> {name}: array<vec4u>;\n")
            }
            Array::Stored { element, quads } => declare(element.wgsl(quads)) + &element.accessors(name, access, quads),
        }
    }

    fn is_f16(self) -> bool {
        matches!(self.array, Array::Stored { element: Element::F16, .. })
    }
}

/// How a stepped kernel learns its step: by immediates, or by dynamic offset into a table where they are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepIndex {
    None,
    Immediate,
    DynamicOffset,
}

/// A whole WGSL module with one entry point, and what its pipeline layout must know.
#[derive(Debug, Clone)]
pub(crate) struct KernelSource {
    /// The file with the entry point, which has the file's name: `stepwise_forward` in `recurrence/stepwise_forward`.
    pub name: &'static str,
    pub wgsl: String,
    pub bindings: Vec<Binding>,
    pub step: StepIndex,
    /// Whether all of it is this crate's own text, so that wgpu's runtime checks can be left out.
    trusted: bool,
    /// Files that are joined so far.
    files: Vec<File>,
    /// The cell in it and the lines of its own text, counted from 0.
    cell: Option<(String, Range<usize>)>,
}

impl KernelSource {
    /// Joins a file, and those it needs, behind the generated part. Every kernel has its sizes in the uniform `sizes: Sizes`,
    /// which `sizes` declares.
    pub fn new(file: File, constants: &[(&str, u32)], bindings: &[Binding], step: StepIndex, sizes: &[&str]) -> Self {
        let enable = if bindings.iter().any(|binding| binding.is_f16()) { "enable f16;\n" } else { "" };
        let mut wgsl = format!("{enable}// {}\n", file.name);
        for (name, value) in constants {
            let _ = writeln!(wgsl, "const {name} = {value}u;");
        }
        wgsl.push_str("@group(0) @binding(0) var<uniform> sizes: Sizes;\n");
        for (i, binding) in bindings.iter().enumerate() {
            wgsl.push_str(&binding.wgsl(i + 1));
        }
        wgsl.push_str(match step {
            StepIndex::None => "",
            StepIndex::Immediate => "struct StepIndex { value: u32 }\nvar<immediate> step_index: StepIndex;\n",
            StepIndex::DynamicOffset => {
                "struct StepIndex { value: u32 }\n@group(1) @binding(0) var<uniform> step_index: StepIndex;\n"
            }
        });
        let _ = writeln!(wgsl, "struct Sizes {{ {}}}", sizes.concat());
        let name = file.name;
        Self { name, wgsl, bindings: bindings.to_vec(), step, trusted: true, files: Vec::new(), cell: None }.with_file(file)
    }

    /// The name of its entry point.
    pub fn entry(&self) -> &'static str {
        self.name.rsplit('/').next().unwrap_or(self.name)
    }

    /// Adds a file of `shaders/`, and those it needs, unless they are there.
    pub fn with_file(mut self, file: File) -> Self {
        let known = self.files.len();
        shaders::add(&mut self.files, file);
        for File { name, text } in &self.files[known..] {
            let _ = write!(self.wgsl, "\n// --- {name}\n{text}");
        }
        self
    }

    /// Adds generated text.
    pub fn with_text(mut self, text: &str) -> Self {
        self.wgsl.push('\n');
        self.wgsl.push_str(text);
        self
    }

    /// Puts generated lines in place of a comment that marks where they go.
    pub fn with_lines(self, mark: &str, lines: &str) -> Self {
        debug_assert!(self.wgsl.contains(mark), "{mark}");
        Self { wgsl: self.wgsl.replace(mark, lines), ..self }
    }

    /// Needs an extension of WGSL.
    pub fn enabling(mut self, extension: &str) -> Self {
        self.wgsl.insert_str(0, &format!("enable {extension};\n"));
        self
    }

    /// With wgpu's runtime checks, whoever wrote it, and with indices of buffers clamped, which wgpu leaves to drivers that promise
    /// to check them.
    #[cfg(test)]
    pub fn checked(self) -> Self {
        let names: Vec<_> = self.bindings.iter().map(|binding| binding.name).collect();
        Self { trusted: false, wgsl: crate::check::bounds::clamped(&self.wgsl, &names), ..self }
    }

    /// Adds a cell: its counts, the types that its functions take and give, the activations and its own WGSL.
    pub fn with_cell(mut self, cell: &ShaderCell) -> Self {
        self.wgsl.push_str(&cell_counts(cell));
        self = self.with_file(shader!("shared/activations"));
        let _ = write!(self.wgsl, "\n// --- cell {}\n", cell.name);
        let start = self.wgsl.lines().count();
        self.wgsl.push_str(&cell.wgsl);
        self.cell = Some((cell.name.clone(), start..self.wgsl.lines().count()));
        self.trusted &= cell.trusted;
        self
    }

    /// An error of wgpu's in terms of a cell's own text, whose author knows nothing of what stands around it.
    pub fn explain(&self, error: Error) -> Error {
        let (Error::Device(text), Some((cell, own))) = (&error, self.cell.as_ref().filter(|_| !self.trusted)) else {
            return error;
        };
        let place = text.split("wgsl:").skip(1).find_map(|rest| {
            let mut numbers = rest.splitn(3, |c: char| !c.is_ascii_digit());
            Some((numbers.next()?.parse::<usize>().ok()?.checked_sub(1)?, numbers.next()?.parse::<usize>().ok()?))
        });
        let Some((line, column)) = place else { return error };
        let what = if own.contains(&line) {
            let at = line - own.start + 1;
            let code = self.wgsl.lines().nth(line).unwrap_or_default().trim();
            format!("its WGSL does not compile, at line {at}, column {column}, `{code}`; wgpu says, of the whole shader: {text}")
        } else {
            let name = self.name;
            format!(
                "its WGSL does not fit `{name}`, which calls it: are all functions there, with these types? wgpu says: {text}"
            )
        };
        Error::Check { cell: cell.clone(), what }
    }
}

fn cell_counts(cell: &ShaderCell) -> String {
    let counts = [
        ("Gates", "GATES", cell.gates.len()),
        ("State", "STATES", cell.states.len()),
        ("Saved", "SAVED", cell.saved),
        ("Unit", "UNIT_ROWS", cell.unit_rows()),
    ];
    let mut wgsl = String::from("\n");
    for (alias, count, n) in counts {
        // WGSL has no empty arrays.
        let _ = writeln!(wgsl, "const {count} = {n}u;\nalias {alias} = array<f32, {}>;", n.max(1));
    }
    let split = u32::from(cell.split_gradients);
    let first = cell.first_phase_gates;
    let _ = writeln!(wgsl, "const SPLIT_GRADIENTS = {split}u;\nconst FIRST_PHASE_GATES = {first}u;");
    wgsl.push_str("struct Forward { next: State, saved: Saved }\n");
    wgsl.push_str("struct Backward { d_wx: Gates, d_rh: Gates, d_prev: State, d_unit: Unit }\n");
    if first == cell.gates.len() {
        wgsl.push_str("fn cell_mid(wx: Gates, rh: Gates, prev: State, unit: Unit) -> f32 { return prev[0]; }\n");
        wgsl.push_str("fn cell_mid_saved(saved: Saved, prev: State) -> f32 { return prev[0]; }\n");
    }
    wgsl
}

/// A source and, once it is compiled, its pipeline.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub source: KernelSource,
    built: OnceLock<Built>,
    building: Mutex<()>,
}

/// A pipeline and the layout that its bind groups need.
#[derive(Debug)]
pub(crate) struct Built {
    pub pipeline: ComputePipeline,
    pub layout: BindGroupLayout,
}

impl Kernel {
    pub fn new(source: KernelSource) -> Self {
        Self { source, built: OnceLock::new(), building: Mutex::default() }
    }

    pub fn built(&self) -> Option<&Built> {
        self.built.get()
    }

    /// Builds it by `how`, unless that was done.
    pub fn build(&self, how: impl FnOnce(&KernelSource) -> Result<Built>) -> Result<()> {
        let _building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        if self.built.get().is_none() {
            // Nobody else sets it while this lock is held.
            let _ = self.built.set(how(&self.source)?);
        }
        Ok(())
    }
}

impl Built {
    /// Errors reach the caller's error scope.
    pub fn new(device: &Device, source: &KernelSource, cache: Option<&PipelineCache>) -> Self {
        let label = Some(source.name);
        let uniform = layout_entry(0, wgpu::BufferBindingType::Uniform, false);
        let storage = source.bindings.iter().enumerate().map(|(i, binding)| {
            let read_only = binding.access == Access::Read;
            layout_entry(i as u32 + 1, wgpu::BufferBindingType::Storage { read_only }, false)
        });
        let entries: Vec<_> = std::iter::once(uniform).chain(storage).collect();
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
        let step_layout = (source.step == StepIndex::DynamicOffset).then(|| step_layout(device));
        let mut layouts = vec![Some(&layout)];
        layouts.extend(step_layout.as_ref().map(Some));
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &layouts,
            immediate_size: if source.step == StepIndex::Immediate { 4 } else { 0 },
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &create_module(device, source),
            entry_point: Some(source.entry()),
            // Every kernel writes its workgroup memory before it reads it.
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache,
        });
        Self { pipeline, layout }
    }
}

/// Layout of the one-entry group that carries the step index at a dynamic offset.
pub(crate) fn step_layout(device: &Device) -> BindGroupLayout {
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some("tidegate step index"),
        entries: &[layout_entry(0, wgpu::BufferBindingType::Uniform, true)],
    })
}

fn layout_entry(binding: u32, ty: wgpu::BufferBindingType, has_dynamic_offset: bool) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
        count: None,
    }
}

fn create_module(device: &Device, source: &KernelSource) -> wgpu::ShaderModule {
    let descriptor =
        wgpu::ShaderModuleDescriptor { label: Some(source.name), source: wgpu::ShaderSource::Wgsl(source.wgsl.as_str().into()) };
    if !source.trusted {
        return device.create_shader_module(descriptor);
    }
    #[expect(unsafe_code, reason = "bounds checks cost 17 to 41 percent in products")]
    // SAFETY: the text is wholly this crate's. Its loops are bounded by sizes, its divisors are at least 1, and every
    // index lies within its binding: `plan/checks.rs` holds the caller's buffers to `BufferSizes` and to the sizes of training's
    // pieces, `program.rs` binds each slot with its exact size, `Dims::new`, `train/pass.rs` and `Dispatch::new` keep indices
    // within u32, `product/bounds.rs` proves each product, and `ShaderCell` keeps a user's cell from changing its counts in between.
    unsafe {
        device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
    }
}
