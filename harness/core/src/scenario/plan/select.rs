//! Which scenarios: filters, groups, level, versions, and the order of a seed.
//!
//! Start at [`select`].

use std::collections::BTreeSet;
use std::sync::Arc;

use globset::GlobBuilder;

use super::{PlanError, Selection, SkipReason};
use crate::scenario::load::did_you_mean;
use crate::scenario::model::{Scenario, ScenarioId, ScenarioSet};
use crate::scenario::schema::Level;

/// The selected scenarios, by id; what selects nothing is an error.
pub(super) fn select(set: &ScenarioSet, selection: &Selection, errors: &mut Vec<PlanError>) -> Vec<Arc<Scenario>> {
    let before = errors.len();
    let mut chosen: BTreeSet<&ScenarioId> = BTreeSet::new();
    for text in &selection.filters {
        match filter(text) {
            Ok(matches) => {
                let found: Vec<_> = set.scenarios.iter().map(|s| &s.id).filter(|id| matches(id)).collect();
                if found.is_empty() {
                    errors.push(nothing(&format!("no scenario matches `{text}`"), &text.replace("::", "/"), set));
                }
                chosen.extend(found);
            }
            Err(error) => errors.push(error),
        }
    }
    for group in &selection.groups {
        if !set.scenarios.iter().any(|s| s.id.group == *group) {
            let groups: BTreeSet<&str> = set.scenarios.iter().map(|s| s.id.group.as_str()).collect();
            let help = did_you_mean(group, groups.iter().copied())
                .or_else(|| (!groups.is_empty()).then(|| format!("groups are {}", words(&groups))));
            errors.push(PlanError { message: format!("no group is named `{group}`"), help });
        }
    }
    let wanted = |s: &&Arc<Scenario>| {
        (selection.filters.is_empty() || chosen.contains(&s.id))
            && (selection.groups.is_empty() || selection.groups.contains(&s.id.group))
            && (selection.level != Some(Level::Core) || s.file.level == Level::Core)
    };
    let selected: Vec<_> = set.scenarios.iter().filter(wanted).cloned().collect();
    if selected.is_empty() && errors.len() == before {
        let message = if set.scenarios.is_empty() {
            "there are no scenarios to select from".to_owned()
        } else {
            "no scenario satisfies the filters, the groups and the level together".to_owned()
        };
        errors.push(PlanError { message, help: Some("`list` shows what there is".into()) });
    }
    selected
}

type Filter = Box<dyn Fn(&ScenarioId) -> bool>;

fn filter(text: &str) -> Result<Filter, PlanError> {
    let text = text.replace("::", "/");
    if text.contains(['*', '?', '[', '{']) {
        let glob = GlobBuilder::new(&text)
            .build()
            .map_err(|e| PlanError { message: format!("`{text}` is no glob: {}", e.kind()), help: None })?;
        let matcher = glob.compile_matcher();
        return Ok(Box::new(move |id| matcher.is_match(id.to_string())));
    }
    if text.contains('/') {
        return Ok(Box::new(move |id| id.to_string() == text));
    }
    Ok(Box::new(move |id| id.claim == text || id.group == text))
}

fn nothing(message: &str, text: &str, set: &ScenarioSet) -> PlanError {
    let mut names: BTreeSet<String> = set.scenarios.iter().map(|s| s.id.to_string()).collect();
    if !text.contains('/') {
        names = set.scenarios.iter().flat_map(|s| [s.id.group.clone(), s.id.claim.clone()]).collect();
    }
    let help = did_you_mean(text, names.iter().map(String::as_str));
    PlanError { message: message.to_owned(), help: help.or_else(|| Some("`list` shows what there is".into())) }
}

fn words(items: &BTreeSet<&str>) -> String {
    items.iter().copied().collect::<Vec<_>>().join(", ")
}

/// Reads `1.31.0`, `1.31`, `1.31.0-rc.0`: only major and minor count.
pub(in crate::scenario) fn version(text: &str) -> Result<semver::Version, PlanError> {
    let mut numbers = text.trim_start_matches('v').split(['.', '-', '+']);
    let mut next = || numbers.next()?.parse().ok();
    match (next(), next()) {
        (Some(major), Some(minor)) => Ok(semver::Version::new(major, minor, 0)),
        _ => Err(PlanError {
            message: format!("`{text}` is no version of Istio: expected major.minor, such as 1.31"),
            help: None,
        }),
    }
}

/// Why a scenario is not about this version.
pub(super) fn skip(scenario: &Scenario, text: &str, version: &semver::Version) -> Option<SkipReason> {
    let wanted = scenario.file.istio.as_ref()?;
    let request = semver::VersionReq::parse(wanted).ok()?;
    (!request.matches(version)).then(|| SkipReason::Istio { wanted: wanted.clone(), seen: text.to_owned() })
}

/// The place of a scenario under a seed. Own arithmetic (FNV-1a, then the end of SplitMix64), because the orders of a
/// seed must stay the same from one build to the next, which generators of libraries do not promise.
pub(super) fn rank(seed: u64, id: &ScenarioId) -> u64 {
    let hash = id
        .to_string()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut z = hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
