// First dispatch of an encode whose first layer strategy persistent makes in one chunk: also clears what its workgroups exchange.
// needs: shared/call_into_workspace shared/clear

@compute @workgroup_size(64)
fn pack_and_clear(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    call_into_workspace(id.x, groups.x * 64u);
    clear(id.x, groups.x * 64u);
}
