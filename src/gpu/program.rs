//! A list of dispatches over named buffers, then the same list bound to real ones and ready to record.

use std::ops::Range;
use std::sync::Arc;

use wgpu::{BindGroup, BufferBinding, BufferUsages, ComputePass, ComputePipeline};

use crate::error::{Error, Limit, Result};
use crate::gpu::context::{CONTROL_BYTES, Context, EMPTY_STRIDE};
use crate::gpu::element::Access;
use crate::gpu::element::Element;
use crate::gpu::kernel::{Built, Kernel, StepIndex};
use crate::gpu::step_table::StepTable;

/// The buffers that a program works on. All but the last are the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Params,
    Input,
    Output,
    InitialState,
    FinalState,
    Lengths,
    Reset,
    Hold,
    DropoutState,
    Reserve,
    Workspace,
    DOutput,
    DFinalState,
    DParams,
    DInput,
    DInitialState,
    Status,
    Tokens,
    Features,
    DFeatures,
    Prediction,
    Targets,
    Mask,
    DPrediction,
    Loss,
    Norm,
    FirstMoment,
    SecondMoment,
    Hyper,
    Guard,
    /// The device's own buffer by which persistent dispatches fail and are repaired.
    Control,
    /// Stands in for an optional buffer that is absent.
    Empty,
}

impl Role {
    /// The field name of the caller's buffer.
    pub fn name(self) -> &'static str {
        match self {
            Role::Params => "params",
            Role::Input => "input",
            Role::Output => "output",
            Role::InitialState => "initial_state",
            Role::FinalState => "final_state",
            Role::Lengths => "lengths",
            Role::Reset => "reset",
            Role::Hold => "hold",
            Role::DropoutState => "dropout_state",
            Role::Reserve => "reserve",
            Role::Workspace => "workspace",
            Role::DOutput => "d_output",
            Role::DFinalState => "d_final_state",
            Role::DParams => "d_params",
            Role::DInput => "d_input",
            Role::DInitialState => "d_initial_state",
            Role::Status => "status",
            Role::Tokens => "tokens",
            Role::Features => "features",
            Role::DFeatures => "d_features",
            Role::Prediction => "prediction",
            Role::Targets => "targets",
            Role::Mask => "mask",
            Role::DPrediction => "d_prediction",
            Role::Loss => "loss",
            Role::Norm => "norm",
            Role::FirstMoment => "first_moment",
            Role::SecondMoment => "second_moment",
            Role::Hyper => "hyper",
            Role::Guard => "guard",
            Role::Control => "control",
            Role::Empty => "empty",
        }
    }
}

/// A byte range of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub role: Role,
    pub offset: u64,
    pub size: u64,
    pub element: Element,
}

impl Slot {
    pub const EMPTY: Self = Self { role: Role::Empty, offset: 0, size: 0, element: Element::F32 };
    pub const CONTROL: Self = Self { role: Role::Control, offset: 0, size: CONTROL_BYTES, element: Element::F32 };

    /// A whole buffer of 4-byte elements.
    pub fn whole(role: Role, elements: u64) -> Self {
        Self::stored(role, elements, Element::F32)
    }

    /// A whole buffer of numbers.
    pub fn stored(role: Role, elements: u64, element: Element) -> Self {
        if elements == 0 { Self::EMPTY } else { Self { role, offset: 0, size: element.dtype().size_of(elements), element } }
    }

    /// How many it has room for.
    pub fn elements(&self) -> u64 {
        let bytes = if self.element == Element::F32 { 4 } else { 2 };
        self.size / bytes
    }

    /// This slot if it is one, else another.
    pub fn or(self, other: Self) -> Self {
        if self == Self::EMPTY { other } else { self }
    }

    /// This slot if `present`, else the stand-in.
    pub fn only_if(self, present: bool) -> Self {
        if present { self } else { Self::EMPTY }
    }

    /// How a kernel that only reads this slot must bind it: whatever may share a buffer with written data is read-write.
    pub fn read_access(self) -> Access {
        if matches!(self.role, Role::Workspace | Role::Output) { Access::ReadWrite } else { Access::Read }
    }
}

/// Hands out aligned ranges of one buffer.
#[derive(Debug)]
pub(crate) struct Arena {
    role: Role,
    alignment: u64,
    pub size: u64,
}

impl Arena {
    pub fn new(role: Role, alignment: u32) -> Self {
        Self { role, alignment: alignment.into(), size: 0 }
    }

    /// A range of 4-byte elements, disjoint from all before it.
    pub fn alloc(&mut self, elements: u64) -> Slot {
        self.alloc_stored(elements, Element::F32)
    }

    /// A range of numbers, disjoint from all before it.
    pub fn alloc_stored(&mut self, elements: u64, element: Element) -> Slot {
        if elements == 0 {
            return Slot::EMPTY;
        }
        let (offset, size) = (self.size.next_multiple_of(self.alignment), element.dtype().size_of(elements));
        self.size = offset + size;
        Slot { role: self.role, offset, size, element }
    }
}

/// One dispatch: a kernel, what it binds, its sizes and its grid.
#[derive(Debug, Clone)]
pub(crate) struct Dispatch {
    pub kernel: Arc<Kernel>,
    pub slots: Vec<Slot>,
    pub sizes: Vec<u8>,
    pub groups: [u32; 3],
    /// Whether the grid comes from the control buffer instead, which holds zeros if the dispatch is not needed.
    pub indirect: bool,
}

impl Dispatch {
    pub fn new(ctx: &Context, kernel: Arc<Kernel>, slots: &[Slot], sizes: &impl bytemuck::Pod, groups: [u64; 3]) -> Result<Self> {
        debug_assert_eq!(kernel.source.bindings.len(), slots.len(), "{}", kernel.source.name);
        let most = ctx.limits().max_compute_workgroups_per_dimension;
        for needed in groups {
            if needed > most.into() {
                let limit = Limit::Device("max_compute_workgroups_per_dimension", format!("in {}", kernel.source.name));
                return Err(Error::Limit { limit, needed, actual: most.into() });
            }
        }
        let has = ctx.limits().max_storage_buffer_binding_size;
        for slot in slots {
            if slot.size > has {
                let what = format!("of `{}` in {}", slot.role.name(), kernel.source.name);
                let limit = Limit::Device("max_storage_buffer_binding_size", what);
                return Err(Error::Limit { limit, needed: slot.size, actual: has });
            }
            let (elements, most) = (slot.elements(), u64::from(u32::MAX));
            if elements > most {
                return Err(Error::Limit { limit: Limit::Index(String::new()), needed: elements, actual: most });
            }
        }
        let sizes = bytemuck::bytes_of(sizes).to_vec();
        Ok(Self { kernel, slots: slots.to_vec(), sizes, groups: groups.map(|n| n as u32), indirect: false })
    }

    pub fn indirect(self) -> Self {
        Self { indirect: true, ..self }
    }
}

/// Dispatches that run in turn, the whole turn once for every step.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub dispatches: Vec<Dispatch>,
    pub steps: Range<u32>,
}

impl From<Dispatch> for Segment {
    fn from(dispatch: Dispatch) -> Self {
        Self { dispatches: vec![dispatch], steps: 0..1 }
    }
}

/// Every kernel of a program.
pub(crate) fn kernels(program: &[Segment]) -> impl Iterator<Item = &Arc<Kernel>> {
    program.iter().flat_map(|segment| &segment.dispatches).map(|dispatch| &dispatch.kernel)
}

/// What a single dispatch would read and what it would write in one buffer, where the app's buffers make it so: WebGPU forbids that.
pub(crate) fn aliasing<'a>(program: &[Segment], buffer: impl Fn(Role) -> Option<BufferBinding<'a>>) -> Option<(Role, Role)> {
    let with = |dispatch: &Dispatch, access: Access| -> Vec<(Role, BufferBinding<'a>)> {
        let slots = dispatch.slots.iter().zip(&dispatch.kernel.source.bindings);
        slots
            .filter(|(_, binding)| binding.access == access)
            .filter_map(|(slot, _)| Some((slot.role, buffer(slot.role)?)))
            .collect()
    };
    program.iter().flat_map(|segment| &segment.dispatches).find_map(|dispatch| {
        let written = with(dispatch, Access::ReadWrite);
        with(dispatch, Access::Read)
            .iter()
            .find_map(|(read, a)| written.iter().find(|(_, b)| a.buffer == b.buffer).map(|(written, _)| (*read, *written)))
    })
}

#[derive(Debug)]
struct BoundDispatch {
    kernel: Arc<Kernel>,
    pipeline: ComputePipeline,
    /// Index into `Bound::groups`; dispatches that bind the same things share one.
    group: usize,
    groups: [u32; 3],
    indirect: bool,
}

/// A program with its bind groups: recording it touches no queue and allocates nothing of the device.
#[derive(Debug)]
pub(crate) struct Bound {
    segments: Vec<(Vec<BoundDispatch>, Range<u32>)>,
    groups: Vec<BindGroup>,
    steps: Option<Arc<StepTable>>,
    control: wgpu::Buffer,
}

impl Bound {
    /// Binds `segments` to the buffers that `buffer` gives for each role.
    pub fn new<'a>(ctx: &Context, segments: &[Segment], buffer: impl Fn(Role) -> Option<BufferBinding<'a>>) -> Result<Self> {
        let dispatches = || segments.iter().flat_map(|s| &s.dispatches);
        if let Some((read, written)) = aliasing(segments, &buffer) {
            return Err(Error::SameBuffer { other: read.name(), written: written.name() });
        }
        ctx.compile(kernels(segments))?;
        let alignment = ctx.limits().min_uniform_buffer_offset_alignment as usize;
        let mut uniforms = Vec::new();
        let mut distinct: Vec<(&Dispatch, usize)> = Vec::new();
        let mut group_of = Vec::new();
        for dispatch in dispatches() {
            let same = |(other, _): &(&Dispatch, usize)| {
                other.slots == dispatch.slots
                    && other.sizes == dispatch.sizes
                    && other.kernel.source.bindings.iter().map(|b| b.access).eq(dispatch
                        .kernel
                        .source
                        .bindings
                        .iter()
                        .map(|b| b.access))
            };
            let index = distinct.iter().position(same).unwrap_or_else(|| {
                uniforms.resize(usize::next_multiple_of(uniforms.len(), alignment), 0u8);
                distinct.push((dispatch, uniforms.len()));
                uniforms.extend_from_slice(&dispatch.sizes);
                distinct.len() - 1
            });
            group_of.push(index);
        }
        uniforms.resize(uniforms.len().next_multiple_of(4).max(4), 0);
        let uniforms = ctx.create_init("tidegate sizes", &uniforms, BufferUsages::UNIFORM)?;
        let groups = distinct
            .iter()
            .map(|(dispatch, offset)| create_group(ctx, dispatch, &uniforms, *offset as u64, &buffer))
            .collect::<Result<Vec<_>>>()?;

        let by_offset = |d: &Dispatch| d.kernel.source.step == StepIndex::DynamicOffset;
        let last_step = segments.iter().filter(|s| s.dispatches.iter().any(by_offset)).map(|s| s.steps.end).max();
        let steps = last_step.map(|len| ctx.step_table(len)).transpose()?;
        let mut group_of = group_of.into_iter();
        let mut bound = |d: &Dispatch| {
            let pipeline = built(&d.kernel)?.pipeline.clone();
            let group = group_of.next().unwrap_or_default();
            Ok(BoundDispatch { kernel: d.kernel.clone(), pipeline, group, groups: d.groups, indirect: d.indirect })
        };
        let mut bind = |s: &Segment| Ok((s.dispatches.iter().map(&mut bound).collect::<Result<_>>()?, s.steps.clone()));
        let segments = segments.iter().map(&mut bind).collect::<Result<_>>()?;
        Ok(Self { segments, groups, steps, control: ctx.control().clone() })
    }

    /// How many dispatches one recording makes.
    pub fn dispatches(&self) -> usize {
        self.segments.iter().map(|(dispatches, steps)| dispatches.len() * steps.len()).sum()
    }

    /// Every dispatch of a recording in order, with its step.
    fn each(&self) -> impl Iterator<Item = (&BoundDispatch, u32)> {
        self.segments.iter().flat_map(|(dispatches, steps)| {
            steps.clone().flat_map(move |step| dispatches.iter().map(move |dispatch| (dispatch, step)))
        })
    }

    /// Records everything into an open pass.
    pub fn record(&self, pass: &mut ComputePass<'_>) {
        let mut last = None;
        for (dispatch, step) in self.each() {
            self.record_one(pass, dispatch, step, last.replace(dispatch));
        }
    }

    /// Records a dispatch; what the last one of the same pass bound stays bound.
    fn record_one(&self, pass: &mut ComputePass<'_>, dispatch: &BoundDispatch, step: u32, last: Option<&BoundDispatch>) {
        if !last.is_some_and(|last| Arc::ptr_eq(&last.kernel, &dispatch.kernel)) {
            pass.set_pipeline(&dispatch.pipeline);
        }
        if last.is_none_or(|last| last.group != dispatch.group) {
            pass.set_bind_group(0, &self.groups[dispatch.group], &[]);
        }
        match (dispatch.kernel.source.step, &self.steps) {
            (StepIndex::Immediate, _) => pass.set_immediates(0, &step.to_le_bytes()),
            (StepIndex::DynamicOffset, Some(table)) => pass.set_bind_group(1, &table.group, &[step * table.stride]),
            _ => {}
        }
        if dispatch.indirect {
            pass.dispatch_workgroups_indirect(&self.control, 0);
        } else {
            let [x, y, z] = dispatch.groups;
            pass.dispatch_workgroups(x, y, z);
        }
    }
}

/// Dispatches in turn, each by its kernel and its grid, which is `None` where the device itself decides on it; and how often the turn
/// runs.
#[cfg(feature = "tools")]
pub(crate) type Turn = (Vec<(&'static str, Option<[u32; 3]>)>, usize);

/// For tools that time every dispatch.
#[cfg(feature = "tools")]
impl Bound {
    /// Records every dispatch into a pass of its own, with one of these timestamps each.
    pub fn record_apart<'a>(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        timestamps: &mut impl Iterator<Item = wgpu::ComputePassTimestampWrites<'a>>,
    ) {
        for ((dispatch, step), writes) in self.each().zip(timestamps) {
            let label = Some(dispatch.kernel.source.name);
            let descriptor = wgpu::ComputePassDescriptor { label, timestamp_writes: Some(writes) };
            self.record_one(&mut encoder.begin_compute_pass(&descriptor), dispatch, step, None);
        }
    }

    /// What a recording consists of.
    pub fn turns(&self) -> impl Iterator<Item = Turn> {
        let told = |d: &BoundDispatch| (d.kernel.source.name, (!d.indirect).then_some(d.groups));
        self.segments.iter().map(move |(dispatches, steps)| (dispatches.iter().map(told).collect(), steps.len()))
    }
}

/// The pipeline of a kernel that was compiled.
fn built(kernel: &Kernel) -> Result<&Built> {
    kernel.built().ok_or_else(|| Error::Device(format!("`{}` was not compiled", kernel.source.name)))
}

fn create_group<'a>(
    ctx: &Context,
    dispatch: &Dispatch,
    uniforms: &wgpu::Buffer,
    uniform_offset: u64,
    buffer: &impl Fn(Role) -> Option<BufferBinding<'a>>,
) -> Result<BindGroup> {
    let kernel = &dispatch.kernel;
    let mut resources = Vec::new();
    for (i, (slot, binding)) in dispatch.slots.iter().zip(&kernel.source.bindings).enumerate() {
        let written = binding.access == Access::ReadWrite;
        let (base, offset, size) = if slot.role == Role::Empty {
            let buffer = ctx.empty(written);
            (BufferBinding { buffer, offset: 0, size: None }, EMPTY_STRIDE * i as u64, 4)
        } else if slot.role == Role::Control {
            (ctx.control().as_entire_buffer_binding(), 0, slot.size)
        } else {
            let reason = "this plan or these options use it";
            let base = buffer(slot.role).ok_or(Error::BufferMissing { name: slot.role.name(), reason })?;
            (base, slot.offset, slot.size)
        };
        resources.push((
            slot.role,
            written,
            BufferBinding { offset: base.offset + offset, size: std::num::NonZeroU64::new(size), ..base },
        ));
    }
    let size = std::num::NonZeroU64::new(dispatch.sizes.len() as u64);
    let uniform = BufferBinding { buffer: uniforms, offset: uniform_offset, size };
    let entries: Vec<_> = std::iter::once(uniform)
        .chain(resources.into_iter().map(|r| r.2))
        .enumerate()
        .map(|(i, binding)| wgpu::BindGroupEntry { binding: i as u32, resource: wgpu::BindingResource::Buffer(binding) })
        .collect();
    let descriptor =
        wgpu::BindGroupDescriptor { label: Some(kernel.source.name), layout: &built(kernel)?.layout, entries: &entries };
    ctx.scoped(|| ctx.device().create_bind_group(&descriptor))
}

/// 32 for each of 128 cores.
const ELEMENTWISE_WORKGROUPS: u32 = 4096;

/// Grid of a kernel that strides over `n` elements with 64 threads a workgroup. On a GPU no more of them than a large one runs at once:
/// an H200 takes 45 µs to start 65,535, whatever they do.
pub(crate) fn elementwise(ctx: &Context, n: u64) -> [u64; 3] {
    let most = if ctx.is_software() { u32::MAX } else { ELEMENTWISE_WORKGROUPS };
    let most = most.min(ctx.limits().max_compute_workgroups_per_dimension);
    [n.div_ceil(64).clamp(1, most.into()), 1, 1]
}
