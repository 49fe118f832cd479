//! What a device can do, as far as this crate asks: limits, optional features, and the least that all kernels run on.

use wgpu::{
    Adapter, AdapterInfo, Backend, CooperativeMatrixProperties, CooperativeScalarType, Device, DownlevelFlags, Features, Limits,
};

use crate::error::{Error, Limit, Result};
use crate::gpu::dtype::Dtype;
use crate::gpu::element::Element;

/// Storage buffers that every device must have for a kernel: WebGPU's default.
const STORAGE_BUFFERS: u32 = 8;
/// Most that any kernel binds, where the device has them: persistent's.
pub(crate) const MOST_STORAGE_BUFFERS: u32 = 11;
/// Invocations and bytes of workgroup memory that every kernel stays within: WebGPU's defaults.
pub(crate) const INVOCATIONS: u32 = 256;
pub(crate) const WORKGROUP_BYTES: u32 = 16384;

/// What a context knows of its device.
#[derive(Debug)]
pub(super) struct Capabilities {
    pub limits: Limits,
    /// Whether the step index goes by immediates, else by dynamic offset.
    pub immediates: bool,
    /// Whether shaders may have f16.
    native_f16: bool,
    /// Whether kernels may unpack f16.
    unpacks_f16: bool,
    /// Size of cooperative matrices of f16 with sums in f32.
    pub cooperative: Option<u32>,
    /// Natively, and on the GPU: browsers promise nothing of workgroups and watch over time.
    pub indirect: bool,
    /// Whether kernels may shuffle among 8 threads: the device has subgroups of at least that many.
    pub subgroups: bool,
    /// Whether buffers may be coherent and volatile.
    pub decorations: bool,
}

impl Capabilities {
    pub fn of(adapter: &Adapter, device: &Device) -> Self {
        let (limits, features, info) = (device.limits(), device.features(), adapter.get_info());
        let downlevel = adapter.get_downlevel_capabilities().flags;
        Self {
            immediates: features.contains(Features::IMMEDIATES) && limits.max_immediate_size >= 4,
            native_f16: features.contains(Features::SHADER_F16),
            unpacks_f16: downlevel.contains(DownlevelFlags::SHADER_F16_IN_F32),
            indirect: downlevel.contains(DownlevelFlags::INDIRECT_EXECUTION) && info.backend != Backend::BrowserWebGpu,
            cooperative: cooperative_size(&info, features, &adapter.cooperative_matrix_properties()),
            subgroups: features.contains(Features::SUBGROUP) && info.subgroup_min_size >= 8,
            decorations: features.contains(DECORATIONS),
            limits,
        }
    }

    /// How numbers of this type are stored on the device.
    pub fn element(&self, dtype: Dtype) -> Result<Element> {
        match dtype {
            Dtype::F32 => Ok(Element::F32),
            // Persistent's exchange is packed on every device.
            Dtype::F16 if !self.unpacks_f16 => {
                Err(Error::Limit { limit: Limit::Feature("unpack2x16float in shaders, for f16"), needed: 1, actual: 0 })
            }
            Dtype::F16 => Ok(if self.native_f16 { Element::F16 } else { Element::PackedF16 }),
        }
    }

    /// Refuses a device below the least that all kernels run on.
    pub fn check(&self) -> Result<()> {
        let limits = &self.limits;
        let checks = [
            ("max_storage_buffers_per_shader_stage", STORAGE_BUFFERS, limits.max_storage_buffers_per_shader_stage),
            ("max_compute_invocations_per_workgroup", INVOCATIONS, limits.max_compute_invocations_per_workgroup),
            ("max_compute_workgroup_size_x", INVOCATIONS, limits.max_compute_workgroup_size_x),
            ("max_compute_workgroup_storage_size", WORKGROUP_BYTES, limits.max_compute_workgroup_storage_size),
        ];
        for (limit, needed, actual) in checks {
            if actual < needed {
                return Err(Error::Limit {
                    limit: Limit::Device(limit, String::new()),
                    needed: needed.into(),
                    actual: actual.into(),
                });
            }
        }
        Ok(())
    }
}

const DECORATIONS: Features = Features::MEMORY_DECORATION_COHERENT.union(Features::MEMORY_DECORATION_VOLATILE);

/// Features to ask for where the adapter has them.
pub(super) fn wanted_features(adapter: &Adapter) -> Features {
    let wanted = Features::IMMEDIATES | Features::TIMESTAMP_QUERY | Features::SUBGROUP | Features::SHADER_F16;
    // On other backends than Vulkan wgpu has one of them at most.
    let decorations = if adapter.features().contains(DECORATIONS) { DECORATIONS } else { Features::empty() };
    (adapter.features() & wanted) | decorations
}

/// WebGPU's default limits, but for what the adapter has more of and a kernel may use.
pub(super) fn wanted_limits(adapter: &Adapter) -> Limits {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::context::Context;

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
