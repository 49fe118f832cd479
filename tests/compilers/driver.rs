//! The Vulkan driver at hand, asked to compile and to tell.

use std::ffi::{CStr, CString};
use std::fs;
use std::path::Path;

use ash::vk;
use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

fn parse(wgsl: &str) -> Result<(naga::Module, ModuleInfo), String> {
    let module = naga::front::wgsl::parse_str(wgsl).map_err(|e| e.emit_to_string(wgsl))?;
    let info =
        Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module).map_err(|e| e.emit_to_string(wgsl))?;
    Ok((module, info))
}

pub fn spirv(wgsl: &str) -> Result<Vec<u32>, String> {
    spirv_of(wgsl, (1, 3))
}

/// Without runtime checks, as the crate's own kernels go to the driver.
pub fn spirv_of(wgsl: &str, lang_version: (u8, u8)) -> Result<Vec<u32>, String> {
    let (module, info) = parse(wgsl)?;
    let options = spv::Options {
        lang_version,
        flags: spv::WriterFlags::empty(),
        force_loop_bounding: false,
        // Else RADV takes time by the cube of that memory: 31 s for 16 KiB.
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        ..Default::default()
    };
    spv::write_vec(&module, &info, &options, None).map_err(|e| e.to_string())
}

pub fn hlsl(wgsl: &str) -> Result<String, String> {
    let (module, info) = parse(wgsl)?;
    let immediates_target = Some(hlsl::BindTarget { space: 1, ..Default::default() });
    let options = hlsl::Options {
        shader_model: hlsl::ShaderModel::V6_0,
        fake_missing_bindings: true,
        immediates_target,
        ..Default::default()
    };
    let mut text = String::new();
    hlsl::Writer::new(&mut text, &options, &Default::default()).write(&module, &info, None).map_err(|e| e.to_string())?;
    Ok(text)
}

pub fn msl(wgsl: &str) -> Result<String, String> {
    let (module, info) = parse(wgsl)?;
    // The first version with all of subgroups, and as wgpu asks for the crate's own kernels.
    let options = msl::Options {
        lang_version: (2, 4),
        fake_missing_bindings: true,
        zero_initialize_workgroup_memory: false,
        force_loop_bounding: false,
        ..Default::default()
    };
    let written = msl::write_string(&module, &info, &options, &msl::PipelineOptions::default());
    written.map(|(text, _)| text).map_err(|e| e.to_string())
}

/// Nanoseconds that this thread had a processor.
fn processor_time() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

struct Driver {
    _entry: ash::Entry,
    device: ash::Device,
    told: ash::khr::pipeline_executable_properties::Device,
}

impl Driver {
    #[expect(unsafe_code, reason = "Vulkan")]
    fn open() -> Self {
        // SAFETY: plain Vulkan, with handles that live until the process ends.
        unsafe {
            let entry = ash::Entry::load().expect("a Vulkan loader");
            let app = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let instance =
                entry.create_instance(&vk::InstanceCreateInfo::default().application_info(&app), None).expect("instance");
            let physical = instance.enumerate_physical_devices().expect("devices")[0];
            let properties = instance.get_physical_device_properties(physical);
            let name = properties.device_name_as_c_str().map_or("?".into(), CStr::to_string_lossy);
            let (memory, threads) =
                (properties.limits.max_compute_shared_memory_size, properties.limits.max_compute_work_group_invocations);
            println!("device: {memory} {threads} {name}");
            let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
            let names = [vk::KHR_PIPELINE_EXECUTABLE_PROPERTIES_NAME.as_ptr()];
            // Everything that the device has.
            let mut executable = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default();
            let (mut v11, mut v12, mut v13) = Default::default();
            let mut features = vk::PhysicalDeviceFeatures2::default()
                .push_next::<vk::PhysicalDeviceVulkan11Features>(&mut v11)
                .push_next::<vk::PhysicalDeviceVulkan12Features>(&mut v12)
                .push_next::<vk::PhysicalDeviceVulkan13Features>(&mut v13)
                .push_next(&mut executable);
            instance.get_physical_device_features2(physical, &mut features);
            let info = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .enabled_extension_names(&names)
                .push_next(&mut features);
            let device = instance.create_device(physical, &info, None).expect("device");
            let told = ash::khr::pipeline_executable_properties::Device::new(&instance, &device);
            Self { _entry: entry, device, told }
        }
    }

    /// A line `name: seconds; statistic value; ..`, or `name: failed: why`.
    #[expect(unsafe_code, reason = "Vulkan")]
    fn compile(&self, name: &str, wgsl: &str) -> Result<String, String> {
        let (module, _) = parse(wgsl)?;
        let spirv = spirv(wgsl)?;
        let entry = CString::new(module.entry_points[0].name.clone()).expect("no NUL in a name");
        let buffers: Vec<_> =
            module.global_variables.iter().filter_map(|(_, global)| global.binding.map(|at| (at, global.space))).collect();
        let groups = buffers.iter().map(|(at, _)| at.group + 1).max().unwrap_or(0);
        // SAFETY: as above; layouts are those that the module itself declares.
        unsafe {
            let sets: Vec<_> = (0..groups).map(|group| self.set(&buffers, group)).collect();
            let ranges = [vk::PushConstantRange::default().stage_flags(vk::ShaderStageFlags::COMPUTE).size(16)];
            let layout = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets).push_constant_ranges(&ranges);
            let layout = self.device.create_pipeline_layout(&layout, None).map_err(|e| e.to_string())?;
            let shader = vk::ShaderModuleCreateInfo::default().code(&spirv);
            let shader = self.device.create_shader_module(&shader, None).map_err(|e| e.to_string())?;
            // As wgpu has it: the driver may choose the size of subgroups.
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .flags(vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE)
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(shader)
                .name(&entry);
            let info = vk::ComputePipelineCreateInfo::default()
                .stage(stage)
                .layout(layout)
                .flags(vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR);
            println!("begin: {name}");
            let start = processor_time();
            let made = self.device.create_compute_pipelines(vk::PipelineCache::null(), &[info], None);
            let pipeline = made.map_err(|(_, e)| e.to_string())?[0];
            let seconds = (processor_time() - start) as f64 * 1e-9;
            Ok(format!("{name}: {seconds:.2}; {}", self.statistics(pipeline).join("; ")))
        }
    }

    #[expect(unsafe_code, reason = "Vulkan")]
    unsafe fn set(&self, buffers: &[(naga::ResourceBinding, naga::AddressSpace)], group: u32) -> vk::DescriptorSetLayout {
        let kind = |space| match space {
            naga::AddressSpace::Uniform => vk::DescriptorType::UNIFORM_BUFFER,
            _ => vk::DescriptorType::STORAGE_BUFFER,
        };
        let bindings: Vec<_> = buffers
            .iter()
            .filter(|(at, _)| at.group == group)
            .map(|&(at, space)| {
                vk::DescriptorSetLayoutBinding::default()
                    .binding(at.binding)
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
                    .descriptor_type(kind(space))
            })
            .collect();
        let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
        // SAFETY: `info` outlives the call.
        unsafe { self.device.create_descriptor_set_layout(&info, None) }.expect("set layout")
    }

    /// What the driver says of a pipeline, as `name value`.
    #[expect(unsafe_code, reason = "Vulkan")]
    unsafe fn statistics(&self, pipeline: vk::Pipeline) -> Vec<String> {
        // SAFETY: the pipeline is alive, and was made to be asked; a value is read as what its format says.
        unsafe {
            let info = vk::PipelineInfoKHR::default().pipeline(pipeline);
            let executables = self.told.get_pipeline_executable_properties(&info).unwrap_or_default();
            let widths = executables.iter().map(|found| format!("Subgroup size {}", found.subgroup_size));
            let asked = |i| {
                let info = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(i);
                self.told.get_pipeline_executable_statistics(&info).unwrap_or_default()
            };
            let value = |found: &vk::PipelineExecutableStatisticKHR<'_>| match found.format {
                vk::PipelineExecutableStatisticFormatKHR::UINT64 => found.value.u64.to_string(),
                vk::PipelineExecutableStatisticFormatKHR::INT64 => found.value.i64.to_string(),
                vk::PipelineExecutableStatisticFormatKHR::FLOAT64 => found.value.f64.to_string(),
                _ => u32::from(found.value.b32 != 0).to_string(),
            };
            let named = |found: &vk::PipelineExecutableStatisticKHR<'_>| {
                format!("{} {}", found.name_as_c_str().map_or("?".into(), CStr::to_string_lossy), value(found))
            };
            widths.chain((0..executables.len() as u32).flat_map(asked).map(|found| named(&found))).collect()
        }
    }
}

/// Every `.wgsl` of a folder whose `.told` isn't there, in the order of their names.
pub fn compile_all(folder: &Path) {
    let driver = Driver::open();
    let mut files: Vec<_> = fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    for path in
        files.iter().filter(|path| path.extension().is_some_and(|ext| ext == "wgsl") && !path.with_extension("told").exists())
    {
        let name = path.file_stem().expect("a name").to_string_lossy();
        // Written first: whoever starts again after a hang goes on behind it.
        fs::write(path.with_extension("told"), "").expect("a mark");
        let wgsl = fs::read_to_string(path).expect("a file");
        match driver.compile(&name, &wgsl) {
            Ok(line) => println!("{line}"),
            Err(why) => println!("{name}: failed: {}", why.replace('\n', " / ")),
        }
    }
    println!("end");
}
