// torch.optim.SGD with dampening 0, for all parameters. hyper: the learning rate; last, not 0 if nothing is to change.

@compute @workgroup_size(64)
fn sgd(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    if hyper[3] != 0.0 { return; }
    let stride = groups.x * 64u;
    for (var i = id.x; i < sizes.len; i += stride) {
        var d = gradients[i] + bitcast<f32>(sizes.weight_decay) * params[i];
        if HAS_MOMENTUM == 1u {
            let momentum = bitcast<f32>(sizes.momentum);
            let buffer = momentum * first_moment[i] + d;
            first_moment[i] = buffer;
            d = select(buffer, d + momentum * buffer, sizes.nesterov == 1u);
        }
        params[i] -= hyper[0] * d;
    }
}
