//! What a tuning tries of strategy persistent: the formula's layout and a few around it.

use super::forced::Forced;
use super::layout::{Layout, Profile, Work};
use super::tile::Matrices;

/// Layouts that a tuning tries at most.
const MOST: usize = 6;
/// Fewest workgroups that are worth it.
const LEAST_WORKGROUPS: u32 = 4;

/// The formula's layout for so many workgroups, then others that differ from it, with the workgroups that they are for. `works` has
/// what each direction of time asks; `by_fours` whether the exchange may go by fours.
pub(super) fn candidates(profile: Profile, workgroups: u32, works: &[Work], by_fours: bool) -> Vec<(u32, Forced)> {
    let of = |count: u32| works.iter().map(|&work| Layout::new(profile, count, work).ok()).collect::<Option<Vec<_>>>();
    let mut found = vec![(workgroups, Forced::default())];
    // What is missing is said by whoever plans with it.
    let Some(formula) = of(workgroups) else { return found };
    if formula.iter().any(|layout| layout.matrices == Matrices::On) {
        found.extend(Forced::around_matrices(works.len() > 1, by_fours).map(|forced| (workgroups, forced)));
        return found;
    }
    if by_fours {
        found.push((workgroups, Forced { vectors: true, ..Forced::default() }));
    }
    let mut seen = vec![formula.clone()];
    // Fewer wait for each other; what does not fit in one direction of time stays the formula's there.
    for part in [2, 4] {
        let count = workgroups / part;
        if let Some(layouts) = of(count).filter(|layouts| count >= LEAST_WORKGROUPS && !seen.contains(layouts)) {
            found.push((count, Forced::default()));
            seen.push(layouts);
        }
    }
    let with_units =
        |(layout, work): (&Layout, &Work), units| Layout::with_units(profile, workgroups, *work, units).unwrap_or(*layout);
    let pairs = || formula.iter().zip(works);
    let changed: [Vec<Layout>; 3] = [
        pairs().map(|pair| with_units(pair, pair.0.units / 2)).collect(),
        pairs().map(|pair| with_units(pair, pair.0.units * 2)).collect(),
        formula.iter().map(|layout| layout.with_fewer_rows(profile).unwrap_or(*layout)).collect(),
    ];
    for layouts in changed {
        if !seen.contains(&layouts) {
            found.push((workgroups, Forced::to(&layouts)));
            seen.push(layouts);
        }
    }
    found.truncate(MOST);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::profile::{DeviceProfile, Vendor};

    fn lstm(hidden: u32, batch: u32, directions: u32, backward: bool) -> Work {
        Work { hidden, batch, directions, gates: 4, first_phase_gates: 4, backward, halves: false }
    }

    /// Each is another layout, within the workgroups that it is for, and says all that makes it so.
    #[test]
    fn candidates_differ_fit_and_are_few() {
        let [h200, ..] = DeviceProfile::samples();
        let device = DeviceProfile { decorations: true, ..h200 };
        let intel = DeviceProfile { vendor: Vendor::Intel, subgroup_min: 8, workgroups: 32, ..device };
        let mut most = 0;
        for device in [device, intel] {
            let profile = Profile::from(device);
            for (hidden, batch, directions) in [(128, 1, 1), (256, 1, 2), (512, 16, 1), (512, 64, 1), (300, 5, 2), (1024, 16, 1)]
            {
                for works in [
                    &[lstm(hidden, batch, directions, false)][..],
                    &[false, true].map(|back| lstm(hidden, batch, directions, back)),
                ] {
                    for by_fours in [false, true] {
                        let found = candidates(profile, device.workgroups, works, by_fours);
                        assert!((1..=MOST).contains(&found.len()), "{found:?}");
                        assert_eq!(found[0], (device.workgroups, Forced::default()));
                        most = most.max(found.len());
                        let layouts = |&(count, forced): &(u32, Forced)| -> Option<Vec<Layout>> {
                            let one = |&work: &Work| {
                                let layout = Layout::new(profile, count, work).ok()?;
                                Some(forced.layout(layout, hidden, batch, device).expect("a layout that holds together"))
                            };
                            works.iter().map(one).collect()
                        };
                        let all: Vec<_> = found.iter().filter_map(layouts).collect();
                        for (i, made) in all.iter().enumerate() {
                            assert!(!all[..i].contains(made), "{hidden} {batch}: {found:?}");
                            assert!(made.iter().all(|layout| layout.groups(directions) <= found[i].0), "{made:?}");
                        }
                    }
                }
            }
        }
        assert_eq!(most, MOST);
    }

    /// By matrices, backward by fours without them, and without them.
    #[test]
    fn matrices_have_their_own() {
        let [h200, ..] = DeviceProfile::samples();
        let device = DeviceProfile { matrices: true, decorations: true, ..h200 };
        let works = [false, true].map(|backward| Work { halves: true, ..lstm(512, 16, 1, backward) });
        let found = candidates(device.into(), 132, &works, true);
        let made = |&(count, forced): &(u32, Forced)| {
            let layout = |work: Work| Layout::new(forced.profile(device, work.backward), count, work).expect("a layout");
            let layouts = works.map(|work| forced.layout(layout(work), 512, 16, device).expect("a layout that holds together"));
            layouts.map(|layout| (layout.matrices, layout.vectors))
        };
        let made: Vec<_> = found.iter().map(made).collect();
        let [on, off, by_fours] = [(Matrices::On, false), (Matrices::Off, false), (Matrices::Off, true)];
        assert_eq!(made, [[on, on], [on, by_fours], [off, off]]);
    }

    /// The layout of an LSTM of 128 takes 4 of 132 workgroups: fewer of them change nothing.
    #[test]
    fn what_changes_nothing_is_left_out() {
        let [h200, ..] = DeviceProfile::samples();
        let found = candidates(Profile::from(h200), 132, &[lstm(128, 1, 1, false)], false);
        assert!(found.len() > 1 && found.iter().all(|&(count, _)| count == 132), "{found:?}");
    }

    /// Units and rows are varied, in both directions of time.
    #[test]
    fn units_and_rows_are_tried() {
        let [h200, ..] = DeviceProfile::samples();
        let works = [false, true].map(|backward| lstm(512, 64, 1, backward));
        let found = candidates(Profile::from(h200), 132, &works, false);
        let texts: Vec<_> = found.iter().map(|(_, forced)| forced.to_string()).collect();
        for part in [" units=8 ", " rows=4 ", "back-rows=1"] {
            assert!(texts.iter().any(|text| text.contains(part)), "{part}: {texts:?}");
        }
    }
}
