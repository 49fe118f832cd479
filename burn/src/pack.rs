//! Burn's tensor for each gate, to and from tidegate's one block of parameters.

use burn::tensor::wgpu::wgpu;
use tidegate::{Context, DeviceBuffer, ParamLayout};
use wgpu::{BindGroup, Buffer, BufferUsages, CommandEncoder, ComputePipeline, Device};

use crate::error::Result;

/// Threads of a workgroup in `pack.wgsl`.
const THREADS: u64 = 256;
/// Workgroups in a row of the grid.
const ROW: u64 = 32_768;

/// The two kernels, built once a device.
pub(crate) struct PackPipelines {
    pack: ComputePipeline,
    unpack: ComputePipeline,
}

impl PackPipelines {
    pub fn new(ctx: &Context) -> Self {
        let device = ctx.device();
        let module = device.create_shader_module(wgpu::include_wgsl!("shaders/pack.wgsl"));
        let pipeline = |entry_point| {
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(entry_point),
                layout: None,
                module: &module,
                entry_point: Some(entry_point),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                cache: None,
            })
        };
        Self { pack: pipeline("pack"), unpack: pipeline("unpack") }
    }
}

/// Where one of Burn's tensors goes: `[rows, columns]` there, transposed in the block; a bias has one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    packed: usize,
    staged: usize,
    rows: usize,
    columns: usize,
    /// Which of the call's weights it is.
    weight: usize,
}

/// Gates of one layer and direction in tidegate's order: whether Burn has a tensor for each.
pub(crate) type Present = Vec<bool>;

/// The pieces in ascending order of offsets.
fn pieces(layout: &ParamLayout, hidden: usize, present: &Present) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut first = 0;
    // Tensors of one block come together, and end in a bias or in weight_hh.
    let specs: Vec<_> = layout.iter().collect();
    for block in specs.chunk_by(|_, next| !next.name.starts_with("weight_ih")) {
        for (kind, spec) in block.iter().enumerate() {
            let rows = spec.shape.get(1).copied().unwrap_or(1);
            let mut weight = first + kind;
            for (gate, _) in present.iter().enumerate().filter(|(_, present)| **present) {
                let packed = spec.range.start + gate * hidden * rows;
                pieces.push(Piece { packed, staged: 0, rows, columns: hidden, weight });
                weight += block.len();
            }
        }
        first += block.len() * present.iter().filter(|present| **present).count();
    }
    let mut staged = 0;
    for piece in &mut pieces {
        piece.staged = staged;
        staged += piece.rows * piece.columns;
    }
    pieces
}

/// How the weights of one network are packed.
pub(crate) struct Pack {
    table: DeviceBuffer,
    staged: DeviceBuffer,
    /// Byte offset and bytes in the staging buffer, by weight.
    places: Vec<(u64, u64)>,
    elements: u64,
    block: u64,
}

/// Bindings of one kernel on one block.
pub(crate) struct PackBinding(BindGroup);

impl Pack {
    pub fn new(ctx: &Context, layout: &ParamLayout, hidden: usize, present: &Present) -> Result<Self> {
        let pieces = pieces(layout, hidden, present);
        let words = pieces.iter().flat_map(|p| [p.packed, p.staged, p.rows, p.columns].map(|word| word as u32));
        let table = ctx.upload("tidegate_burn pieces", &words.collect::<Vec<_>>())?;
        let mut places = vec![(0, 0); pieces.len()];
        for piece in &pieces {
            places[piece.weight] = (4 * piece.staged as u64, 4 * (piece.rows * piece.columns) as u64);
        }
        let elements: u64 = places.iter().map(|(_, bytes)| bytes / 4).sum();
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let staged = ctx.create_buffer("tidegate_burn weights", 4 * elements, usage)?;
        Ok(Self { table, staged, places, elements, block: layout.len() as u64 })
    }

    /// The staging buffer.
    pub fn staged(&self) -> &Buffer {
        &self.staged
    }

    /// Byte offset and bytes of each weight in the staging buffer.
    pub fn places(&self) -> &[(u64, u64)] {
        &self.places
    }

    /// For [`pack`](Pack::pack) into `block`.
    pub fn bind_pack(&self, device: &Device, pipelines: &PackPipelines, block: &Buffer) -> PackBinding {
        self.bind(device, &pipelines.pack, [&self.staged, block])
    }

    /// For [`unpack`](Pack::unpack) from `block`.
    pub fn bind_unpack(&self, device: &Device, pipelines: &PackPipelines, block: &Buffer) -> PackBinding {
        self.bind(device, &pipelines.unpack, [block, &self.staged])
    }

    fn bind(&self, device: &Device, pipeline: &ComputePipeline, [src, dst]: [&Buffer; 2]) -> PackBinding {
        let buffers = [&self.table, src, dst];
        let entries = [0, 1, 2].map(|i| wgpu::BindGroupEntry { binding: i as u32, resource: buffers[i].as_entire_binding() });
        PackBinding(device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        }))
    }

    /// From the staging buffer to a block.
    pub fn pack(&self, encoder: &mut CommandEncoder, pipelines: &PackPipelines, binding: &PackBinding) {
        dispatch(encoder, &pipelines.pack, binding, self.block);
    }

    /// From a block to the staging buffer.
    pub fn unpack(&self, encoder: &mut CommandEncoder, pipelines: &PackPipelines, binding: &PackBinding) {
        dispatch(encoder, &pipelines.unpack, binding, self.elements);
    }
}

fn dispatch(encoder: &mut CommandEncoder, pipeline: &ComputePipeline, binding: &PackBinding, threads: u64) {
    let groups = threads.div_ceil(THREADS);
    let mut pass =
        encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("tidegate_burn"), timestamp_writes: None });
    pass.set_pipeline(pipeline);
    pass.set_bind_group(0, &binding.0, &[]);
    pass.dispatch_workgroups(groups.min(ROW) as u32, groups.div_ceil(ROW) as u32, 1);
}

#[cfg(test)]
mod tests {
    use tidegate::{Lstm, RnnConfig};

    use super::*;

    /// Every element of the block but a missing gate's is of one piece, and every weight has its own.
    #[test]
    fn pieces_cover_the_block() {
        let config = RnnConfig::new(3, 5).with_num_layers(2).with_bidirectional(true);
        let layout = ParamLayout::new(&Lstm::default(), &config).unwrap();
        for present in [vec![true; 4], vec![true, false, true, true]] {
            let pieces = pieces(&layout, 5, &present);
            let missing = present.iter().filter(|present| !**present).count();
            assert_eq!(pieces.len(), 4 * 4 * (4 - missing));
            let mut weights: Vec<_> = pieces.iter().map(|piece| piece.weight).collect();
            weights.sort_unstable();
            assert_eq!(weights, (0..pieces.len()).collect::<Vec<_>>());
            let mut covered = vec![0; layout.len()];
            for piece in &pieces {
                covered[piece.packed..piece.packed + piece.rows * piece.columns].iter_mut().for_each(|n| *n += 1);
            }
            let gate: usize = layout.iter().map(|spec| spec.range.len() / 4).sum();
            assert_eq!(covered.iter().sum::<usize>(), layout.len() - missing * gate);
            assert!(covered.iter().all(|&n| n <= 1));
            assert!(pieces.is_sorted_by_key(|piece| (piece.packed, piece.staged)));
        }
    }
}
