//! `copy`: the files that are put into a volume.

use super::source::{copy_tar, parse_owner};
use super::{SeedError, VolumeContents};
use crate::spec::CopySeed;

pub(super) fn contents(seed: &CopySeed) -> Result<VolumeContents, SeedError> {
    let owner = seed.owner.as_deref().map(parse_owner).transpose()?;
    let folder = seed.to.as_deref().map(|to| to.trim_matches('/')).filter(|to| !to.is_empty());
    Ok(VolumeContents { folder: folder.map(str::to_owned), archive: copy_tar(&seed.source, owner)? })
}
