//! The part of [`Store::ensure`] that asks registries.
//!
//! Decides what is looked for in an image, and what is left to the pinned sources. Start at `make_from_images`.

use std::collections::BTreeMap;

use super::{SPACE_PER_RESULT_MIB, Store, Tools};
use crate::component::{Component, Image, Source};
use crate::disk;
use crate::error::Error;
use crate::name::ProgramName;
use crate::programs::Program;
use crate::progress::Progress;
use crate::source::oci::Registry;
use crate::versions::Family;

impl Store {
    /// Makes what comes from images, and gives back the rest: also what only could come from one, where its registry is out
    /// of reach or has none.
    pub(super) async fn make_from_images<'c>(
        &self,
        missing: &[&'c Component],
        progress: &dyn Progress,
        made: &mut Vec<(ProgramName, Program)>,
    ) -> Result<Vec<&'c Component>, Error> {
        let images = missing.iter().filter_map(|component| image_of(component));
        if images.clone().next().is_none() {
            return Ok(missing.to_vec());
        }
        let registry = Registry::new(images)?;
        let needs = [(self.cache.dir().to_owned(), SPACE_PER_RESULT_MIB * missing.len() as u64)];
        disk::require(&needs, &missing.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", "))?;
        let mut reach: BTreeMap<Family, bool> = BTreeMap::new();
        let mut rest = Vec::new();
        let result = async {
            for component in missing {
                let may = match &component.image {
                    None => matches!(component.source, Source::Image(_)),
                    Some(image) => match reach.get(&image.family) {
                        Some(reach) => *reach,
                        None => *reach.entry(image.family).or_insert(registry.in_reach(image).await),
                    },
                };
                if !may {
                    rest.push(*component);
                    continue;
                }
                let out = component.out_of_image();
                let tools = Tools { toolchain: None, registry: Some(&registry) };
                let place = (made.len() + 1, missing.len());
                match self.make(out.as_ref().unwrap_or(component), tools, progress, place).await {
                    Ok(object) => made.push((component.name.clone(), object.into())),
                    Err(Error::NoImage { .. }) if out.is_some() => rest.push(*component),
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        let result = result.await;
        registry.finish(&self.cache);
        result.map(|()| rest)
    }
}

/// The image that a component comes from, or may come from.
fn image_of(component: &Component) -> Option<&Image> {
    match &component.source {
        Source::Image(image) => Some(image),
        _ => component.image.as_ref(),
    }
}
