// needs: shared/floats
// Second stage: each row's -log softmax(prediction)[label], 0 where it does not count, and the gradient of the mean of those
// that do. LANES threads share a row, a workgroup takes 64 / LANES rows at a time.

const ROWS = 64u / LANES;
const LOWEST = -3.4028234e38;

var<workgroup> lanes: array<f32, 64>;

fn larger(a: f32, b: f32) -> f32 {
    return select(select(max(a, b), b, is_nan(b)), a, is_nan(a));
}

// NaN where one of them is.
fn largest_of_row(thread: u32, value: f32) -> f32 {
    lanes[thread] = value;
    workgroupBarrier();
    for (var n = LANES / 2u; n > 0u; n /= 2u) {
        if thread % LANES < n { lanes[thread] = larger(lanes[thread], lanes[thread + n]); }
        workgroupBarrier();
    }
    let largest = lanes[thread / LANES * LANES];
    workgroupBarrier();
    return largest;
}

fn sum_of_row(thread: u32, value: f32) -> f32 {
    lanes[thread] = value;
    workgroupBarrier();
    for (var n = LANES / 2u; n > 0u; n /= 2u) {
        if thread % LANES < n { lanes[thread] += lanes[thread + n]; }
        workgroupBarrier();
    }
    let sum = lanes[thread / LANES * LANES];
    workgroupBarrier();
    return sum;
}

@compute @workgroup_size(64)
fn cross_entropy(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let lane = thread % LANES;
    let blocks = (sizes.rows + ROWS - 1u) / ROWS;
    for (var block = group.x; block < blocks; block += groups.x) {
        let row = block * ROWS + thread / LANES;
        let first = row * sizes.features;
        var counted = false;
        if row < sizes.rows { counted = is_counted(row); }
        var largest = LOWEST;
        if counted {
            for (var c = lane; c < sizes.features; c += LANES) { largest = larger(largest, prediction[first + c]); }
        }
        largest = largest_of_row(thread, largest);
        var sum = 0.0;
        if counted {
            for (var c = lane; c < sizes.features; c += LANES) { sum += exp(max(prediction[first + c] - largest, -104.0)); }
        }
        sum = sum_of_row(thread, sum);
        // No `continue`: all threads of a workgroup go on to the next barrier.
        if counted {
            let label = targets[row];
            // As of PyTorch: of a NaN, of an infinity (less itself), and of minus infinities alone.
            if !is_finite(largest) || sum == 0.0 { sum = bitcast<f32>(bitcast<u32>(sum) | 0x7fc00000u); }
            for (var c = lane; c < sizes.features; c += LANES) {
                let softmax = exp(max(prediction[first + c] - largest, -104.0)) / sum;
                d_prediction[first + c] = (softmax - select(0.0, 1.0, c == label)) / loss[1];
            }
            if lane == 0u { row_loss[row] = log(sum) + (largest - prediction[first + label]); }
        } else if row < sizes.rows {
            for (var c = lane; c < sizes.features; c += LANES) { d_prediction[first + c] = 0.0; }
            if lane == 0u { row_loss[row] = 0.0; }
        }
    }
}
