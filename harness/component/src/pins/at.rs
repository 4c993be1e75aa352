//! The pins at versions that somebody asks for: from which source each component then comes.
//!
//! Pure; whether an image is there is found out by the store. Start at [`Pins::at`].

use super::Pins;
use crate::component::{Component, Image, Source};
use crate::error::Error;
use crate::schema;
use crate::versions::{Family, Versions};

impl Pins {
    /// The same pins with the versions that are asked for in place of the usual ones. What is pinned to a version that is
    /// asked for is as pinned; what is not, and what a hub is named for, comes from images. As soon as anything is asked for,
    /// official images are tried first for all that is missing.
    ///
    /// # Errors
    /// [`Error::NotPinned`] with the versions that there are, where there are no images.
    pub fn at(&self, versions: &Versions) -> Result<Self, Error> {
        let mut pins = self.clone();
        if versions.is_empty() {
            return Ok(pins);
        }
        for (component, spec) in pins.components.iter_mut().zip(&self.images) {
            self.put_at(component, spec, versions)?;
        }
        Ok(pins)
    }

    fn put_at(&self, component: &mut Component, images: &[schema::Image], versions: &Versions) -> Result<(), Error> {
        let wanted = component.family.and_then(|family| Some((family, versions.of(family)?)));
        let own = images.iter().find(|image| component.family.is_none_or(|family| family == image.hub));
        if let (Some(own), Some(family)) = (own, component.family)
            && self.is_from_images(family, versions)
        {
            let version = wanted.map_or_else(|| component.version.clone(), |(_, wanted)| wanted.to_owned());
            component.source = Source::Image(self.image(own, &version, versions));
            component.version = version;
            return Ok(());
        }
        if let Some((family, wanted)) = wanted.filter(|(_, wanted)| *wanted != component.version) {
            let Some(at) = component.others.iter().position(|(version, _)| version == wanted) else {
                return Err(Error::NotPinned { family, wanted: wanted.to_owned(), known: self.known(family) });
            };
            (component.version, component.source) = component.others.swap_remove(at);
        }
        let along = images.iter().find(|image| Some(image.hub) != component.family && component.family.is_some());
        if let (Some(along), None) = (along, wanted)
            && self.is_from_images(along.hub, versions)
        {
            let version = versions.of(along.hub).map_or_else(|| self.known(along.hub).swap_remove(0), str::to_owned);
            component.source = Source::Image(self.image(along, &version, versions));
            component.version = version;
            if let Some(check) = &mut component.check {
                check.any = true;
            }
            return Ok(());
        }
        component.image = own.map(|own| self.image(own, &component.version, versions));
        Ok(())
    }

    /// Whether a project's programs come from images and from nowhere else.
    pub fn is_from_images(&self, family: Family, versions: &Versions) -> bool {
        let not_pinned = |wanted| !self.known(family).iter().any(|known| known == wanted);
        versions.hubs.contains_key(&family) || versions.of(family).is_some_and(not_pinned)
    }

    fn image(&self, spec: &schema::Image, version: &str, versions: &Versions) -> Image {
        let hub = versions.hubs.get(&spec.hub).or_else(|| self.hubs.get(&spec.hub)).map_or("", String::as_str);
        Image {
            // A tag knows no `+`.
            reference: format!("{hub}/{}:{}", spec.name, spec.tag.replace("{version}", &version.replace('+', "-"))),
            path: spec.path.clone(),
            family: spec.hub,
            known: self.known(spec.hub),
        }
    }

    /// The pinned versions of a family, the usual one first.
    pub fn known(&self, family: Family) -> Vec<String> {
        let first = self.components.iter().find(|c| c.family == Some(family));
        first
            .into_iter()
            .flat_map(|c| std::iter::once(&c.version).chain(c.others.iter().map(|(v, _)| v)))
            .cloned()
            .collect()
    }
}
