// torch.optim.Adam, or with DECOUPLED AdamW, for all parameters.
// hyper: learning rate / bias correction of the first moment, root of that of the second, 1 - learning rate · weight decay;
// last, not 0 if nothing is to change.

@compute @workgroup_size(64)
fn adam(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    if hyper[3] != 0.0 { return; }
    let stride = groups.x * 64u;
    for (var i = id.x; i < sizes.len; i += stride) {
        var param = params[i];
        var d = gradients[i];
        if DECOUPLED == 1u {
            param *= hyper[2];
        } else {
            d += bitcast<f32>(sizes.weight_decay) * param;
        }
        let first = first_moment[i] + (d - first_moment[i]) * bitcast<f32>(sizes.one_minus_beta1);
        let second = bitcast<f32>(sizes.beta2) * second_moment[i] + bitcast<f32>(sizes.one_minus_beta2) * d * d;
        first_moment[i] = first;
        second_moment[i] = second;
        params[i] = param - hyper[0] * (first / (sqrt(second) / hyper[1] + bitcast<f32>(sizes.eps)));
    }
}
