//! A device and its queue, what they can do, what goes wrong with them, and the pipelines built on them so far.

use std::collections::HashMap;
use std::fmt;
#[cfg(not(target_arch = "wasm32"))]
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
#[cfg(not(target_arch = "wasm32"))]
use std::time::Duration;

use wgpu::{
    Adapter, AdapterInfo, Backend, Buffer, BufferUsages, CooperativeMatrixProperties, CooperativeScalarType, Device, DeviceType,
    DownlevelFlags, Features, Limits, Queue,
};

use crate::error::{Error, Result};
use crate::gpu::dtype::Dtype;
use crate::gpu::element::Element;
use crate::gpu::error_scopes::ErrorScopes;
use crate::gpu::kernel::{Built, Kernel, KernelSource, step_layout};
use crate::gpu::residency::SideBySide;

/// Storage buffers that every device must have for a kernel: WebGPU's default.
const STORAGE_BUFFERS: u32 = 8;
/// Most that any kernel binds, where the device has them: persistent's.
pub(crate) const MOST_STORAGE_BUFFERS: u32 = 11;
/// Invocations and bytes of workgroup memory that every kernel stays within: WebGPU's defaults.
pub(crate) const INVOCATIONS: u32 = 256;
pub(crate) const WORKGROUP_BYTES: u32 = 16384;
/// Grid of the repair, and the marks that persistent dispatches fail by.
pub(crate) const CONTROL_BYTES: u64 = 32;
/// Distance between the parts of the empty buffers: no two bindings of a dispatch may overlap if they are written.
pub(crate) const EMPTY_STRIDE: u64 = 256;
/// Longest wait for the GPU, by default.
#[cfg(not(target_arch = "wasm32"))]
const TIMEOUT: Duration = Duration::from_secs(600);

/// A device and its queue; cheap to clone. Pipelines are cached here and shared by everything built on it.
#[derive(Debug, Clone)]
pub struct Context {
    inner: Arc<Inner>,
    /// In browsers nothing waits.
    #[cfg(not(target_arch = "wasm32"))]
    timeout: Duration,
    /// Where the driver keeps what it compiled, if the app has such a place.
    pipeline_cache: Option<wgpu::PipelineCache>,
    /// Whether all kernels keep wgpu's runtime checks, ours too.
    #[cfg(test)]
    checked: bool,
}

struct Inner {
    device: Device,
    queue: Queue,
    info: AdapterInfo,
    limits: Limits,
    immediates: bool,
    /// Whether kernels may unpack f16.
    unpacks_f16: bool,
    /// Size of cooperative matrices of f16 with sums in f32.
    cooperative: Option<u32>,
    /// Natively, and on the GPU: browsers promise nothing of workgroups and watch over time.
    indirect: bool,
    /// Keyed by the whole WGSL text.
    kernels: Mutex<HashMap<String, Arc<Kernel>>>,
    /// Grows by powers of two; programs keep the one they were bound with.
    step_table: Mutex<Option<Arc<StepTable>>>,
    /// Bound where an optional buffer is absent, read-only and read-write.
    empty: [Buffer; 2],
    /// What other contexts of the device may share.
    shared: Arc<SideBySide>,
    /// Repaired runs of strategy persistent that this crate's own calls saw.
    repairs: AtomicU32,
    scopes: ErrorScopes,
    lost: Arc<AtomicBool>,
}

/// Of what it holds, only what tells one context from another: the kernels' sources alone fill pages.
impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, info, .. } = self;
        f.debug_struct("Context").field("device", device).field("adapter", &info.name).finish_non_exhaustive()
    }
}

fn new_instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env())
}

/// The largest of the cooperative matrices that `product/cooperative.wgsl` can take, if any.
fn cooperative_size(info: &AdapterInfo, features: Features, has: &[CooperativeMatrixProperties]) -> Option<u32> {
    let needed = Features::EXPERIMENTAL_COOPERATIVE_MATRIX | Features::SHADER_F16 | Features::SUBGROUP;
    // Metal tells a range, and has 32 on every GPU with such matrices.
    let subgroups = info.backend == Backend::Metal || (info.subgroup_min_size, info.subgroup_max_size) == (32, 32);
    let suits = |size: u32| {
        has.iter().any(|m| {
            [m.m_size, m.n_size, m.k_size] == [size; 3]
                && (m.ab_type, m.cr_type) == (CooperativeScalarType::F16, CooperativeScalarType::F32)
                && !m.saturating_accumulation
        })
    };
    [16, 8].into_iter().find(|&size| features.contains(needed) && subgroups && suits(size))
}

/// A lost device gives buffers that cannot be mapped, and no error; a full one gives an error. In browsers it gives those that can:
/// there the callback tells, and the first readback that is refused.
fn is_lost(device: &Device) -> bool {
    if cfg!(target_arch = "wasm32") {
        return false;
    }
    let descriptor = wgpu::BufferDescriptor {
        label: Some("tidegate probe"),
        size: 4,
        usage: BufferUsages::COPY_SRC,
        mapped_at_creation: true,
    };
    let (is_mapped, error) =
        ErrorScopes::default().catch(device, || device.create_buffer(&descriptor).get_mapped_range_mut(..).is_ok());
    !is_mapped && error.is_none()
}

/// A uniform buffer of step indices, bound at a dynamic offset of `step · stride`.
#[derive(Debug)]
pub(crate) struct StepTable {
    len: u32,
    pub stride: u32,
    pub group: wgpu::BindGroup,
}

impl Context {
    /// Features to ask for where the adapter has them; all optional.
    pub fn wanted_features(adapter: &Adapter) -> Features {
        let wanted = Features::IMMEDIATES | Features::TIMESTAMP_QUERY | Features::SUBGROUP | Features::SHADER_F16;
        adapter.features() & wanted
    }

    /// Limits to ask for: WebGPU's defaults, with the adapter's own sizes of buffers, bindings and workgroups, and enough bindings for
    /// [`Strategy::Persistent`](crate::Strategy::Persistent); all optional.
    pub fn wanted_limits(adapter: &Adapter) -> Limits {
        let has = adapter.limits();
        let immediates = adapter.features().contains(Features::IMMEDIATES);
        Limits {
            max_storage_buffer_binding_size: has.max_storage_buffer_binding_size,
            max_buffer_size: has.max_buffer_size,
            max_compute_invocations_per_workgroup: has.max_compute_invocations_per_workgroup,
            max_compute_workgroup_size_x: has.max_compute_workgroup_size_x,
            max_compute_workgroup_size_y: has.max_compute_workgroup_size_y,
            max_compute_workgroup_storage_size: has.max_compute_workgroup_storage_size,
            // What strategy persistent binds; all else is content with WebGPU's default.
            max_storage_buffers_per_shader_stage: has.max_storage_buffers_per_shader_stage.min(MOST_STORAGE_BUFFERS),
            min_storage_buffer_offset_alignment: has.min_storage_buffer_offset_alignment,
            min_uniform_buffer_offset_alignment: has.min_uniform_buffer_offset_alignment,
            max_immediate_size: if immediates { has.max_immediate_size.min(16) } else { 0 },
            ..Limits::default().or_worse_values_from(&has)
        }
    }

    /// Works on the app's own device. Its error and device-lost handlers are left alone.
    ///
    /// One context for a device is best: clone it. Two that know nothing of each other may let two dispatches of
    /// [`Strategy::Persistent`](crate::Strategy::Persistent) run at once, and each then waits for workgroups that the other has no
    /// room for: both end by the bound on their waiting, are repaired, and take many times as long; the numbers stay right. See
    /// [`from_device_sharing`](Context::from_device_sharing).
    pub fn from_device(adapter: &Adapter, device: &Device, queue: &Queue) -> Result<Self> {
        Self::new(adapter, device, queue, Arc::default(), None)
    }

    /// [`from_device`](Context::from_device) for a second context of `first`'s device, with pipelines of its own: their persistent
    /// dispatches wait for each other, and what [`measure_residency`](Context::measure_residency) finds holds for both.
    ///
    /// A device other than `first`'s is refused if it is of the same [`wgpu::Instance`]; wgpu cannot tell devices of two instances apart.
    pub fn from_device_sharing(first: &Self, adapter: &Adapter, device: &Device, queue: &Queue) -> Result<Self> {
        if device != first.device() {
            let name = adapter.get_info().name;
            return Err(Error::Config(format!(
                "from_device_sharing: the device (on {name}) is not that of the first context (on {}); share within one device, \
                 use from_device for another",
                first.adapter_info().name
            )));
        }
        Self::new(adapter, device, queue, first.inner.lost.clone(), Some(first.inner.shared.clone()))
    }

    /// The one wgpu instance of this process that [`request`](Context::request) takes its adapter from. Adapters of
    /// [`from_adapter`](Context::from_adapter) best come from it too: a buffer of one context that is given to another is then an
    /// error. Buffers of two instances are numbered alike, and neither wgpu nor this crate can tell one from the other.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn instance() -> &'static wgpu::Instance {
        static INSTANCE: std::sync::OnceLock<wgpu::Instance> = std::sync::OnceLock::new();
        INSTANCE.get_or_init(new_instance)
    }

    /// In browsers all instances are one.
    #[cfg(target_arch = "wasm32")]
    pub fn instance() -> wgpu::Instance {
        new_instance()
    }

    /// Opens a device of its own on the adapter that wgpu prefers, for tools and tests.
    pub async fn request() -> Result<Self> {
        let instance = Self::instance();
        let options =
            wgpu::RequestAdapterOptions { power_preference: wgpu::PowerPreference::HighPerformance, ..Default::default() };
        let adapter = instance.request_adapter(&options).await?;
        Self::from_adapter(&adapter).await
    }

    /// Opens a device of its own on this adapter, with the wanted features and limits.
    pub async fn from_adapter(adapter: &Adapter) -> Result<Self> {
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("tidegate"),
            required_features: Self::wanted_features(adapter),
            required_limits: Self::wanted_limits(adapter),
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await?;
        let lost = Arc::new(AtomicBool::new(false));
        let flag = lost.clone();
        device.set_device_lost_callback(move |_, _| flag.store(true, Ordering::Release));
        Self::new(adapter, &device, &queue, lost, None)
    }

    fn new(
        adapter: &Adapter,
        device: &Device,
        queue: &Queue,
        lost: Arc<AtomicBool>,
        shared: Option<Arc<SideBySide>>,
    ) -> Result<Self> {
        let limits = device.limits();
        let immediates = device.features().contains(Features::IMMEDIATES) && limits.max_immediate_size >= 4;
        let downlevel = adapter.get_downlevel_capabilities().flags;
        let unpacks_f16 = downlevel.contains(DownlevelFlags::SHADER_F16_IN_F32);
        let indirect =
            downlevel.contains(DownlevelFlags::INDIRECT_EXECUTION) && adapter.get_info().backend != Backend::BrowserWebGpu;
        let scopes = ErrorScopes::default();
        let create = |label, size, usage| {
            let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
            let (buffer, error) = scopes.catch(device, || device.create_buffer(&descriptor));
            error.map_or(Ok(buffer), |error| Err(Error::Device(error.to_string())))
        };
        let empty_bytes = EMPTY_STRIDE * u64::from(MOST_STORAGE_BUFFERS + 1);
        let empty = |label| create(label, empty_bytes, BufferUsages::STORAGE);
        let shared = match shared {
            Some(shared) => shared,
            None => {
                let usage = BufferUsages::STORAGE | BufferUsages::INDIRECT;
                Arc::new(SideBySide::new(create("tidegate control", CONTROL_BYTES, usage)?))
            }
        };
        let inner = Inner {
            device: device.clone(),
            queue: queue.clone(),
            info: adapter.get_info(),
            limits,
            immediates,
            unpacks_f16,
            indirect,
            cooperative: cooperative_size(&adapter.get_info(), device.features(), &adapter.cooperative_matrix_properties()),
            kernels: Mutex::default(),
            step_table: Mutex::default(),
            empty: [empty("tidegate empty read")?, empty("tidegate empty write")?],
            shared,
            repairs: AtomicU32::new(0),
            scopes,
            lost,
        };
        let context = Self {
            inner: Arc::new(inner),
            #[cfg(not(target_arch = "wasm32"))]
            timeout: TIMEOUT,
            pipeline_cache: None,
            #[cfg(test)]
            checked: false,
        };
        context.check_present()?;
        Ok(context)
    }

    /// The longest that a call waits for the GPU before it gives up with an error, 10 minutes by default. What is built on the
    /// context from here on keeps to it.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Compiles pipelines through a cache of the app's, which it can store and load: the next start then compiles none of them again.
    /// The cache must be of this context's device. What is built on the context from here on uses it.
    pub fn with_pipeline_cache(self, cache: &wgpu::PipelineCache) -> Self {
        Self { pipeline_cache: Some(cache.clone()), ..self }
    }

    /// Builds kernels with all of wgpu's runtime checks; before any is built.
    #[cfg(test)]
    pub(crate) fn with_checks(self) -> Self {
        Self { checked: true, ..self }
    }

    /// The wgpu device.
    pub fn device(&self) -> &Device {
        &self.inner.device
    }

    /// Its queue.
    pub fn queue(&self) -> &Queue {
        &self.inner.queue
    }

    /// What wgpu tells of the adapter.
    pub fn adapter_info(&self) -> &AdapterInfo {
        &self.inner.info
    }

    /// Whether the adapter runs on the CPU.
    pub fn is_software(&self) -> bool {
        self.inner.info.device_type == DeviceType::Cpu
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Whether the step index goes by immediates, else by dynamic offset.
    pub(crate) fn immediates(&self) -> bool {
        self.inner.immediates
    }

    /// How numbers of this type are stored here.
    pub(crate) fn element(&self, dtype: Dtype) -> Result<Element> {
        let native = self.inner.device.features().contains(Features::SHADER_F16);
        match dtype {
            Dtype::F32 => Ok(Element::F32),
            // Persistent's exchange is packed on every device.
            Dtype::F16 if !self.inner.unpacks_f16 => {
                Err(Error::Limit { limit: "unpack2x16float in shaders, for f16".into(), needed: 1, actual: 0 })
            }
            Dtype::F16 => Ok(if native { Element::F16 } else { Element::PackedF16 }),
        }
    }

    /// The size of matrices that subgroups can multiply together.
    pub(crate) fn cooperative_size(&self) -> Result<u32> {
        let (name, feature) = (self.inner.info.name.clone(), "cooperative matrices of f16 with sums in f32 on this device");
        self.inner.cooperative.ok_or(Error::Unsupported { name, feature })
    }

    /// Whether strategy persistent may be repaired here.
    pub(crate) fn has_indirect(&self) -> bool {
        self.inner.indirect
    }

    /// Whether kernels may shuffle among 8 threads: the device has subgroups of at least that many.
    pub(crate) fn subgroups(&self) -> bool {
        self.inner.device.features().contains(Features::SUBGROUP) && self.inner.info.subgroup_min_size >= 8
    }

    pub(crate) fn empty(&self, written: bool) -> &Buffer {
        &self.inner.empty[usize::from(written)]
    }

    pub(crate) fn repairs(&self) -> u32 {
        self.inner.repairs.load(Ordering::Relaxed)
    }

    /// Takes note of repairs, and of how many workgroups came where not all did, 0 if that was never the reason.
    pub(crate) fn record_repairs(&self, repairs: u32, came: u32) {
        // So few are counted that it cannot overflow.
        if repairs > 0 {
            self.inner.repairs.fetch_add(1, Ordering::Relaxed);
            self.lower_residency(came);
        }
    }

    /// The same of what a status buffer held, as it was read back.
    pub(crate) fn record_status(&self, status: &[f32]) {
        let word = |i: usize| status.get(i).map_or(0, |word| word.to_bits());
        self.record_repairs(word(1), word(2));
    }

    pub(crate) fn control(&self) -> &Buffer {
        &self.inner.shared.control
    }

    /// What contexts of one device share.
    pub(crate) fn shared(&self) -> &SideBySide {
        &self.inner.shared
    }

    /// The kernel of that source, the same each time; [`compile`](Context::compile) builds its pipeline.
    pub(crate) fn kernel(&self, source: KernelSource) -> Arc<Kernel> {
        let mut kernels = self.inner.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = kernels.get(&source.wgsl) {
            return kernel.clone();
        }
        let text = source.wgsl.clone();
        #[cfg(test)]
        let source = if self.checked { source.checked() } else { source };
        let kernel = Arc::new(Kernel::new(source));
        kernels.insert(text, kernel.clone());
        kernel
    }

    /// Builds the pipelines of these kernels that have none yet: natively side by side, on as many threads as there are.
    pub(crate) fn compile<'a>(&self, kernels: impl Iterator<Item = &'a Arc<Kernel>>) -> Result<()> {
        let mut missing: Vec<&Arc<Kernel>> = Vec::new();
        for kernel in kernels {
            if kernel.built().is_none() && !missing.iter().any(|known| Arc::ptr_eq(known, kernel)) {
                missing.push(kernel);
            }
        }
        #[cfg(not(target_arch = "wasm32"))]
        {
            let threads = std::thread::available_parallelism().map_or(1, usize::from).min(missing.len());
            if threads > 1 {
                let next = AtomicUsize::new(0);
                let work = || {
                    let of_thread = || missing.get(next.fetch_add(1, Ordering::Relaxed));
                    std::iter::from_fn(of_thread).try_for_each(|kernel| self.build(kernel))
                };
                return std::thread::scope(|scope| {
                    let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
                    let results = std::iter::once(work()).chain(others.into_iter().map(|other| match other.join() {
                        Ok(result) => result,
                        Err(panic) => std::panic::resume_unwind(panic),
                    }));
                    results.collect::<Vec<_>>().into_iter().collect()
                });
            }
        }
        missing.into_iter().try_for_each(|kernel| self.build(kernel))
    }

    /// How many have a pipeline.
    #[cfg(all(test, feature = "tools"))]
    pub(crate) fn built_pipelines(&self) -> usize {
        let kernels = self.inner.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        kernels.values().filter(|kernel| kernel.built().is_some()).count()
    }

    /// Builds one pipeline, once: who wants the same meanwhile waits for it, and nobody else.
    fn build(&self, kernel: &Kernel) -> Result<()> {
        kernel.build(|source| {
            let built = self.scoped(|| Built::new(&self.inner.device, source, self.pipeline_cache.as_ref()))?;
            // A lost device gives pipelines without a word, and once they are kept nobody asks again.
            self.check_present()?;
            Ok(built)
        })
    }

    /// Step indices 0..`len` at dynamic offsets, for devices without immediates.
    pub(crate) fn step_table(&self, len: u32) -> Result<Arc<StepTable>> {
        let mut cached = self.inner.step_table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = cached.as_ref().filter(|table| table.len >= len) {
            return Ok(table.clone());
        }
        let stride = u64::from(self.inner.limits.min_uniform_buffer_offset_alignment);
        let most = u64::from(u32::MAX) / stride;
        if u64::from(len) > most {
            return Err(Error::Limit { limit: "u32 dynamic offset of seq_len + 1".into(), needed: len.into(), actual: most });
        }
        let table = Arc::new(self.create_step_table(len.next_power_of_two().min(most as u32))?);
        *cached = Some(table.clone());
        Ok(table)
    }

    fn create_step_table(&self, len: u32) -> Result<StepTable> {
        let stride = self.inner.limits.min_uniform_buffer_offset_alignment;
        let mut words = vec![0u32; len as usize * (stride / 4) as usize];
        for (step, entry) in words.chunks_exact_mut((stride / 4) as usize).enumerate() {
            entry[0] = step as u32;
        }
        let buffer = self.create_init("tidegate steps", bytemuck::cast_slice(&words), BufferUsages::UNIFORM)?;
        let layout = step_layout(&self.inner.device);
        let size = std::num::NonZeroU64::new(4);
        let entry = wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: &buffer, offset: 0, size }),
        };
        let descriptor = wgpu::BindGroupDescriptor { label: Some("tidegate steps"), layout: &layout, entries: &[entry] };
        let group = self.scoped(|| self.inner.device.create_bind_group(&descriptor))?;
        Ok(StepTable { len, stride, group })
    }

    /// A buffer that is filled without touching the queue.
    pub(crate) fn create_init(&self, label: &str, bytes: &[u8], usage: BufferUsages) -> Result<Buffer> {
        let size = bytes.len() as u64;
        let has = self.inner.limits.max_buffer_size;
        if size > has {
            return Err(Error::Limit { limit: "max_buffer_size".into(), needed: size, actual: has });
        }
        // In browsers memory that cannot be had is an error of the write; mapped, it would be an exception that wgpu panics on.
        if cfg!(target_arch = "wasm32") {
            let buffer = self.create_buffer(label, size, usage | BufferUsages::COPY_DST)?;
            self.write(&buffer, 0, bytes)?;
            return Ok(buffer);
        }
        let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: true };
        let buffer = self.scoped(|| self.inner.device.create_buffer(&descriptor))?;
        buffer.get_mapped_range_mut(..).map_err(|e| self.failure(e))?.copy_from_slice(bytes);
        buffer.unmap();
        Ok(buffer)
    }

    /// A zeroed buffer; one that is too large, or for which there is no memory, is an error, not wgpu's panic.
    pub fn create_buffer(&self, label: &str, size: u64, usage: BufferUsages) -> Result<Buffer> {
        let has = self.inner.limits.max_buffer_size;
        if size > has {
            return Err(Error::Limit { limit: "max_buffer_size".into(), needed: size, actual: has });
        }
        let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
        self.scoped(|| self.inner.device.create_buffer(&descriptor))
    }

    /// Refuses a device below the least that all kernels run on.
    pub(crate) fn check_limits(&self) -> Result<()> {
        let limits = &self.inner.limits;
        let checks = [
            ("max_storage_buffers_per_shader_stage", STORAGE_BUFFERS, limits.max_storage_buffers_per_shader_stage),
            ("max_compute_invocations_per_workgroup", INVOCATIONS, limits.max_compute_invocations_per_workgroup),
            ("max_compute_workgroup_size_x", INVOCATIONS, limits.max_compute_workgroup_size_x),
            ("max_compute_workgroup_storage_size", WORKGROUP_BYTES, limits.max_compute_workgroup_storage_size),
        ];
        for (limit, needed, actual) in checks {
            if actual < needed {
                return Err(Error::Limit { limit: limit.into(), needed: needed.into(), actual: actual.into() });
            }
        }
        Ok(())
    }

    /// Runs `call` with wgpu's errors caught, which would else reach the app's handler. In browsers the error is given by
    /// [`settle`](Context::settle), or by a later call.
    pub(crate) fn scoped<T>(&self, call: impl FnOnce() -> T) -> Result<T> {
        let (value, error) = self.inner.scopes.catch(&self.inner.device, call);
        self.check_lost()?;
        match error {
            Some(error) => Err(self.failure(error)),
            None => Ok(value),
        }
    }

    /// Waits for what the scopes of all calls so far have to tell; natively they have told.
    pub(crate) async fn settle(&self) -> Result<()> {
        let error = self.inner.scopes.settle().await;
        self.check_lost()?;
        error.map_or(Ok(()), |error| Err(self.failure(error)))
    }

    /// What a readback means that the device refused.
    pub(crate) async fn refused(&self, error: wgpu::BufferAsyncError) -> Error {
        if let Err(error) = self.check_present() {
            return error;
        }
        match self.settle().await {
            Err(error) => error,
            // A browser refuses without a word where the device is lost, and may tell of that later.
            Ok(()) if cfg!(target_arch = "wasm32") => {
                self.inner.lost.store(true, Ordering::Release);
                Error::DeviceLost
            }
            Ok(()) => error.into(),
        }
    }

    /// What a failed call of wgpu means.
    pub(crate) fn failure(&self, error: impl std::fmt::Display) -> Error {
        match self.check_present() {
            Err(lost) => lost,
            Ok(()) => Error::Device(error.to_string()),
        }
    }

    /// Asks the device itself whether it is lost: on a borrowed one the app has the callback.
    pub(crate) fn check_present(&self) -> Result<()> {
        self.check_lost()?;
        if is_lost(&self.inner.device) {
            self.inner.lost.store(true, Ordering::Release);
        }
        self.check_lost()
    }

    /// Whether the device is known to be lost: then every call gives [`Error::DeviceLost`]. On a borrowed device only a call finds out.
    pub fn is_lost(&self) -> bool {
        self.check_lost().is_err()
    }

    pub(crate) fn check_lost(&self) -> Result<()> {
        if self.inner.lost.load(Ordering::Acquire) { Err(Error::DeviceLost) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cooperative_matrices_need_everything_at_once() {
        let ctx = pollster::block_on(Context::request()).expect("this needs an adapter");
        let needed = Features::EXPERIMENTAL_COOPERATIVE_MATRIX | Features::SHADER_F16 | Features::SUBGROUP;
        let info = |backend, subgroups: [u32; 2]| {
            let mut info = AdapterInfo { backend, ..ctx.adapter_info().clone() };
            [info.subgroup_min_size, info.subgroup_max_size] = subgroups;
            info
        };
        let (half, single) = (CooperativeScalarType::F16, CooperativeScalarType::F32);
        let matrix = |size: u32, ab_type, cr_type| CooperativeMatrixProperties {
            m_size: size,
            n_size: size,
            k_size: size,
            ab_type,
            cr_type,
            saturating_accumulation: false,
        };
        let nvidia = info(Backend::Vulkan, [32, 32]);
        let both = [matrix(8, half, single), matrix(16, half, single)];
        assert_eq!(cooperative_size(&nvidia, needed, &both), Some(16));
        assert_eq!(cooperative_size(&info(Backend::Metal, [4, 64]), needed, &both[..1]), Some(8));
        for missing in [Features::EXPERIMENTAL_COOPERATIVE_MATRIX, Features::SHADER_F16, Features::SUBGROUP] {
            assert_eq!(cooperative_size(&nvidia, needed - missing, &both), None);
        }
        assert_eq!(cooperative_size(&info(Backend::Vulkan, [32, 64]), needed, &both), None);
        let oblong = CooperativeMatrixProperties { k_size: 8, ..both[1] };
        let saturating = CooperativeMatrixProperties { saturating_accumulation: true, ..both[1] };
        for unsuited in [matrix(16, half, half), matrix(16, single, single), oblong, saturating] {
            assert_eq!(cooperative_size(&nvidia, needed, &[unsuited]), None, "{unsuited:?}");
        }
        // Asked for by nobody unless the app opens the device itself.
        let error = ctx.cooperative_size().unwrap_err().to_string();
        assert!(error.contains(&ctx.adapter_info().name) && error.contains("cooperative"), "{error}");
    }
}
