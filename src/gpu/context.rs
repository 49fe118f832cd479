//! A device and its queue, and all that is kept for what is built on them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
#[cfg(not(target_arch = "wasm32"))]
use std::time::Duration;

use wgpu::{Adapter, AdapterInfo, Buffer, BufferUsages, Device, DeviceType, Features, Limits, Queue};

use crate::error::{Error, Result};
use crate::gpu::capabilities::{self, Capabilities, MOST_STORAGE_BUFFERS};
use crate::gpu::dtype::Dtype;
use crate::gpu::element::Element;
use crate::gpu::kernel::{Built, Kernel, KernelSource};
use crate::gpu::pipelines::{self, Pipelines};
use crate::gpu::side_by_side::{SideBySide, waits_in_vain};
use crate::gpu::step_table::{StepTable, StepTables};
use crate::gpu::watch::WatchedDevice;

/// Grid of the repair, and the marks that persistent dispatches fail by.
pub(crate) const CONTROL_BYTES: u64 = 32;
/// Distance between the parts of the empty buffers: no two bindings of a dispatch may overlap if they are written.
pub(crate) const EMPTY_STRIDE: u64 = 256;
/// Longest wait for the GPU, by default.
#[cfg(not(target_arch = "wasm32"))]
const TIMEOUT: Duration = Duration::from_secs(600);

/// Where it is known beforehand what a device has not, so that what would use it is left out of what a page downloads.
pub(crate) const IN_BROWSER: bool = cfg!(target_arch = "wasm32");

/// A device and its queue; cheap to clone. Pipelines are cached here and shared by everything built on it.
#[derive(Clone)]
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
    /// Counted up in the process.
    number: u64,
    device: WatchedDevice,
    queue: Queue,
    info: AdapterInfo,
    can: Capabilities,
    kernels: Pipelines,
    steps: StepTables,
    /// Bound where an optional buffer is absent, read-only and read-write.
    empty: [Buffer; 2],
    /// What other contexts of the device may share.
    shared: Arc<SideBySide>,
    /// Repaired runs of strategy persistent that this crate's own calls saw.
    repairs: AtomicU32,
}

/// What tells one device from another: the kernels' sources alone fill pages.
impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AdapterInfo { name, backend, driver, driver_info, .. } = &self.inner.info;
        let mut context = f.debug_struct("Context");
        context
            .field("number", &self.inner.number)
            .field("adapter", name)
            .field("backend", backend)
            .field("driver", &format_args!("{driver} {driver_info}"));
        context.finish_non_exhaustive()
    }
}

fn new_instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    // Grids of indirect dispatches are this crate's own, 0 or checked; wgpu's check of each is a dispatch and two barriers more.
    descriptor.flags.remove(wgpu::InstanceFlags::VALIDATION_INDIRECT_CALL);
    wgpu::Instance::new(descriptor.with_env())
}

impl Context {
    /// Features to ask for where the adapter has them; all optional.
    pub fn wanted_features(adapter: &Adapter) -> Features {
        capabilities::wanted_features(adapter)
    }

    /// Limits to ask for: WebGPU's defaults, with the adapter's own sizes of buffers, bindings and workgroups, and enough bindings for
    /// [`Strategy::Persistent`](crate::Strategy::Persistent); all optional.
    pub fn wanted_limits(adapter: &Adapter) -> Limits {
        capabilities::wanted_limits(adapter)
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
        Self::new(adapter, device, queue, first.inner.device.lost().clone(), Some(first.inner.shared.clone()))
    }

    /// The one wgpu instance of this process that [`request`](Context::request) takes its adapter from. Adapters of
    /// [`from_adapter`](Context::from_adapter) best come from it too: a buffer of one context that is given to another is then an
    /// error. Buffers of two instances are numbered alike, and wgpu cannot tell one from the other; this crate can as long as they are
    /// [`DeviceBuffer`](crate::DeviceBuffer)s.
    ///
    /// It leaves grids of indirect dispatches unchecked, those of the app too, unless `WGPU_VALIDATION_INDIRECT_CALL=1` is set: this crate's
    /// own are within limits, and wgpu's check takes another dispatch before each.
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
        let watched = WatchedDevice::new(device.clone(), lost);
        let create = |label, size, usage| {
            let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
            watched.scoped(|| device.create_buffer(&descriptor))
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
        let empty = [empty("tidegate empty read")?, empty("tidegate empty write")?];
        watched.check_present()?;
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let inner = Inner {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            device: watched,
            queue: queue.clone(),
            info: adapter.get_info(),
            can: Capabilities::of(adapter, device),
            kernels: Pipelines::default(),
            steps: StepTables::default(),
            empty,
            shared,
            repairs: AtomicU32::new(0),
        };
        Ok(Self {
            inner: Arc::new(inner),
            #[cfg(not(target_arch = "wasm32"))]
            timeout: TIMEOUT,
            pipeline_cache: None,
            #[cfg(test)]
            checked: false,
        })
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
        self.inner.device.device()
    }

    /// Its queue.
    pub fn queue(&self) -> &Queue {
        &self.inner.queue
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn number(&self) -> u64 {
        self.inner.number
    }

    /// For errors that have to tell two contexts of one adapter apart: the first of a process is number 1.
    pub(crate) fn describe(&self) -> String {
        format!("context {} ({}, {})", self.inner.number, self.inner.info.name, self.inner.info.backend)
    }

    /// What wgpu reports about the adapter.
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
        &self.inner.can.limits
    }

    /// Whether the step index goes by immediates, else by dynamic offset.
    pub(crate) fn immediates(&self) -> bool {
        self.inner.can.immediates
    }

    /// How numbers of this type are stored here.
    pub(crate) fn element(&self, dtype: Dtype) -> Result<Element> {
        self.inner.can.element(dtype)
    }

    /// The size of matrices that subgroups can multiply together.
    pub(crate) fn cooperative_size(&self) -> Result<u32> {
        let (name, feature) = (self.inner.info.name.clone(), "cooperative matrices of f16 with sums in f32 on this device");
        self.inner.can.cooperative.ok_or(Error::Unsupported { name, feature })
    }

    /// Whether strategy persistent may be repaired here.
    pub(crate) fn has_indirect(&self) -> bool {
        !IN_BROWSER && self.inner.can.indirect
    }

    /// Whether kernels may shuffle among 8 threads: the device has subgroups of at least that many.
    pub(crate) fn subgroups(&self) -> bool {
        !IN_BROWSER && self.inner.can.subgroups
    }

    /// Whether buffers may be coherent and volatile.
    pub(crate) fn decorations(&self) -> bool {
        !IN_BROWSER && self.inner.can.decorations
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
        self.record_repairs(waits_in_vain([0, 1, 2, 3].map(word)), word(2));
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
        #[cfg(test)]
        let adjust = |source: KernelSource| if self.checked { source.checked() } else { source };
        #[cfg(not(test))]
        let adjust = std::convert::identity;
        self.inner.kernels.kernel(source, adjust)
    }

    /// Builds the pipelines of these kernels that have none yet: natively side by side, on as many threads as there are.
    pub(crate) fn compile<'a>(&self, kernels: impl Iterator<Item = &'a Arc<Kernel>>) -> Result<()> {
        pipelines::compile(kernels, |kernel| self.build(kernel))
    }

    /// How many have a pipeline.
    #[cfg(all(test, feature = "tools"))]
    pub(crate) fn built_pipelines(&self) -> usize {
        self.inner.kernels.built()
    }

    /// Builds one pipeline, once: who wants the same meanwhile waits for it, and nobody else.
    fn build(&self, kernel: &Kernel) -> Result<()> {
        kernel.build(|source| {
            let built = self.scoped(|| Built::new(self.device(), source, self.pipeline_cache.as_ref()));
            let built = built.map_err(|error| source.explain(error))?;
            // A lost device gives pipelines without a word, and once they are kept nobody asks again.
            self.check_present()?;
            Ok(built)
        })
    }

    /// Step indices 0..`len` at dynamic offsets, for devices without immediates.
    pub(crate) fn step_table(&self, len: u32) -> Result<Arc<StepTable>> {
        let stride = self.limits().min_uniform_buffer_offset_alignment;
        let fill = |bytes: &[u8]| self.create_init("tidegate steps", bytes, BufferUsages::UNIFORM);
        self.inner.steps.get(&self.inner.device, len, stride, fill)
    }

    /// Refuses a device below the least that all kernels run on.
    pub(crate) fn check_limits(&self) -> Result<()> {
        self.inner.can.check()
    }

    /// Runs `call` with wgpu's errors caught, which would else reach the app's handler. In browsers the error is given by
    /// [`settle`](Context::settle), or by a later call.
    pub(crate) fn scoped<T>(&self, call: impl FnOnce() -> T) -> Result<T> {
        self.inner.device.scoped(call)
    }

    /// Waits for the errors of all calls so far; natively they have been given.
    pub(crate) async fn settle(&self) -> Result<()> {
        self.inner.device.settle().await
    }

    /// What a readback means that the device refused.
    pub(crate) async fn refused(&self, error: wgpu::BufferAsyncError) -> Error {
        self.inner.device.refused(error).await
    }

    /// What a failed call of wgpu means.
    pub(crate) fn failure(&self, error: impl fmt::Display) -> Error {
        self.inner.device.failure(error)
    }

    /// Asks the device itself whether it is lost: on a borrowed one the app has the callback.
    pub(crate) fn check_present(&self) -> Result<()> {
        self.inner.device.check_present()
    }

    /// Whether the device is known to be lost: then every call gives [`Error::DeviceLost`]. On a borrowed device only a call finds out.
    pub fn is_lost(&self) -> bool {
        self.check_lost().is_err()
    }

    pub(crate) fn check_lost(&self) -> Result<()> {
        self.inner.device.check_lost()
    }
}
