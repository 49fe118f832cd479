//! The sources of every product and sum, for validation without a device.

use crate::gpu::element::{Access, Element};
use crate::gpu::kernel::KernelSource;
use crate::product::kernel::ProductKernel;
use crate::product::layout::ProductLayout;
use crate::product::sums::{Sharing, column_sum_source, reduce_source};
use crate::product::tile::Tile;

/// Every source that this module can ask for, but for combinations that tell nothing new, for validation without a device.
pub(crate) fn sources() -> Vec<KernelSource> {
    let mut sources = vec![reduce_source()];
    sources.extend(Sharing::ALL.map(column_sum_source));
    let plain = ProductLayout {
        along_k: [true; 2],
        quads: [true; 3],
        access: [Access::Read; 2],
        elements: [Element::F32; 3],
        whole_k: true,
        whole: [true; 2],
    };
    let orientations = [[true, true], [true, false], [false, false]];
    for tile in Tile::ALL {
        for whole_k in [false, true] {
            let source = |along_k| ProductKernel::Tiled(tile.blocking(0)).source(ProductLayout { along_k, whole_k, ..plain });
            sources.extend(orientations.map(source));
        }
    }
    #[cfg(not(target_arch = "wasm32"))]
    sources.extend(of_matrices(plain, orientations));
    for access in [[Access::Read; 2], [Access::ReadWrite, Access::Read], [Access::ReadWrite; 2]] {
        for elements in [
            [Element::F32; 3],
            [Element::F16, Element::F16, Element::F32],
            [Element::F32, Element::F16, Element::F16],
            [Element::PackedF16, Element::PackedF16, Element::F32],
        ] {
            for quads in [[true; 3], [false; 3]] {
                for along_k in orientations {
                    let layout = ProductLayout { along_k, quads, access, elements, whole_k: false, whole: [false; 2] };
                    sources.push(ProductKernel::Tiled(Tile::Of32x32.blocking(0)).source(layout));
                }
            }
            for shuffle in [false, true] {
                sources.push(ProductKernel::Cpu { shuffle }.source(ProductLayout { access, elements, ..plain }));
            }
        }
    }
    sources
}

/// Those by cooperative matrices, which differ from `plain`.
#[cfg(not(target_arch = "wasm32"))]
fn of_matrices(plain: ProductLayout, orientations: [[bool; 2]; 3]) -> Vec<KernelSource> {
    let mut sources = Vec::new();
    for (tile, size) in [Tile::Of64x64, Tile::Of128x128].into_iter().flat_map(|tile| [(tile, 8), (tile, 16)]) {
        let matrices = tile.matrices(size, u32::MAX);
        let (half, single) = (Element::F16, Element::F32);
        for elements in [[half, half, single], [half; 3], [single; 3], [single, half, single], [single, half, half]] {
            for (quads, whole_k, whole) in [(true, true, true), (true, true, false), (true, false, false), (false, false, false)]
            {
                let (quads, whole) = ([quads; 3], [whole; 2]);
                let source = |along_k| {
                    ProductKernel::Cooperative(matrices).source(ProductLayout {
                        along_k,
                        quads,
                        elements,
                        whole_k,
                        whole,
                        ..plain
                    })
                };
                sources.extend(orientations.map(source));
            }
        }
    }
    sources
}
