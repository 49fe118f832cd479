//! Work as an operation of Burn's backend.

use std::sync::Arc;

use burn::backend::Cube;
use burn::backend::tensor::{FloatTensor, IntTensor};

use crate::execute::Work;

/// Runs at once.
///
/// # Panics
///
/// As all of Burn's operations do, where the device is lost or out of memory.
#[cfg(not(feature = "fusion"))]
pub(crate) fn launch(
    work: Arc<dyn Work>,
    inputs: Vec<FloatTensor<Cube>>,
    lengths: Option<IntTensor<Cube>>,
) -> Vec<FloatTensor<Cube>> {
    work.run(inputs, lengths).unwrap_or_else(|error| panic!("{error}"))
}

/// Queues the work among fusion's operations: it runs where its turn comes, and a failure is told by whoever reads what it was to write.
#[cfg(feature = "fusion")]
pub(crate) fn launch(
    work: Arc<dyn Work>,
    inputs: Vec<FloatTensor<Cube>>,
    lengths: Option<IntTensor<Cube>>,
) -> Vec<FloatTensor<Cube>> {
    use burn::backend::DType;
    use burn::backend::fusion::custom::{CustomOpIr, OperationIr, StreamId, TensorIr};

    let client = inputs[0].client.clone();
    let inputs: Vec<_> = inputs.into_iter().map(|tensor| tensor.into_ir()).collect();
    let lengths = lengths.map(|tensor| tensor.into_ir());
    let output = |shape| TensorIr::uninit(client.create_empty_handle(), shape, DType::F32);
    let outputs: Vec<_> = work.outputs().into_iter().map(output).collect();
    let described = CustomOpIr {
        id: work.name().into(),
        inputs: inputs.iter().chain(&lengths).cloned().collect(),
        outputs: outputs.clone(),
        scalars: Vec::new(),
    };
    let operation = fused::Queued { work, inputs, lengths, outputs };
    client.register(StreamId::current(), OperationIr::Custom(described), operation)
}

#[cfg(feature = "fusion")]
mod fused {
    use std::sync::Arc;

    use burn::backend::ExecutionError;
    use burn::backend::fusion::custom::{HandleContainer, Operation, TensorIr};
    use burn_cubecl::CubeBackend;
    use burn_cubecl::fusion::{CubeFusionHandle, FusionCubeRuntime};

    use crate::execute::Work;

    /// Work whose turn is to come.
    #[derive(Debug)]
    pub struct Queued {
        pub work: Arc<dyn Work>,
        pub inputs: Vec<TensorIr>,
        pub lengths: Option<TensorIr>,
        pub outputs: Vec<TensorIr>,
    }

    impl Operation<FusionCubeRuntime> for Queued {
        fn execute(&self, handles: &mut HandleContainer<CubeFusionHandle>) -> Result<(), ExecutionError> {
            let inputs = self.inputs.iter().map(|tensor| handles.get_float_tensor::<CubeBackend>(tensor)).collect();
            let lengths = self.lengths.as_ref().map(|tensor| handles.get_int_tensor::<CubeBackend>(tensor));
            let outputs = self.work.run(inputs, lengths).map_err(|error| ExecutionError::with_context(error.to_string()))?;
            for (described, tensor) in self.outputs.iter().zip(outputs) {
                handles.register_float_tensor::<CubeBackend>(&described.id, tensor);
            }
            Ok(())
        }
    }
}
