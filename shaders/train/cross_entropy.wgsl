// Second stage: each row's -log softmax(prediction)[label], 0 where it does not count, and the gradient of the mean of those
// that do. LANES threads share a row, a workgroup takes 64 / LANES rows at a time.

const ROWS = 64u / LANES;
const LOWEST = -3.4028234e38;

var<workgroup> lanes: array<f32, 64>;

fn largest_of_row(thread: u32, value: f32) -> f32 {
    lanes[thread] = value;
    workgroupBarrier();
    for (var n = LANES / 2u; n > 0u; n /= 2u) {
        if thread % LANES < n { lanes[thread] = max(lanes[thread], lanes[thread + n]); }
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
            for (var c = lane; c < sizes.features; c += LANES) { largest = max(largest, prediction[first + c]); }
        }
        largest = largest_of_row(thread, largest);
        var sum = 0.0;
        if counted {
            for (var c = lane; c < sizes.features; c += LANES) { sum += exp(prediction[first + c] - largest); }
        }
        sum = sum_of_row(thread, sum);
        // No `continue`: all threads of a workgroup go on to the next barrier.
        if counted {
            let label = targets[row];
            for (var c = lane; c < sizes.features; c += LANES) {
                let softmax = exp(prediction[first + c] - largest) / sum;
                d_prediction[first + c] = (softmax - select(0.0, 1.0, c == label)) / loss[1];
            }
            if lane == 0u { row_loss[row] = log(sum) + (largest - prediction[first + label]); }
        } else if row < sizes.rows {
            for (var c = lane; c < sizes.features; c += LANES) { d_prediction[first + c] = 0.0; }
            if lane == 0u { row_loss[row] = 0.0; }
        }
    }
}
