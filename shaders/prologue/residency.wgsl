// How many workgroups as heavy as strategy persistent's run side by side, and whether the lanes of a subgroup are neighbours in their
// workgroup. The entry point is generated, see src/gpu/residency.rs.

const ARRIVED = 0u;
const OVER = 1u;
const COUNT = 2u;
const OUT_OF_ORDER = 3u;
const SINK = 4u;

// Counts this workgroup and waits; the first that has waited long enough takes the count. Nobody has left until then, so all that
// are counted run at the same time; who comes later isn't counted any more.
fn roll_call() {
    if atomicLoad(&words[OVER]) != 0u { return; }
    atomicAdd(&words[ARRIVED], 1u);
    for (var polls = 0u; polls < sizes.polls; polls++) {
        if atomicLoad(&words[OVER]) != 0u { return; }
    }
    if atomicExchange(&words[OVER], 1u) == 0u { atomicStore(&words[COUNT], atomicLoad(&words[ARRIVED])); }
}
