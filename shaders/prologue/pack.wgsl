// First dispatch of an encode.
// needs: shared/call_into_workspace

@compute @workgroup_size(64)
fn pack(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    call_into_workspace(id.x, groups.x * 64u);
}
