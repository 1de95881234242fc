//! `copy`: the files that are put into a volume.

use super::source::{copy_tar, parse_owner};
use super::{SeedError, VolumeContents};
use crate::host_files::WritableFolders;
use crate::spec::CopySeed;

pub(super) fn contents(seed: &CopySeed, writable: &WritableFolders) -> Result<VolumeContents, SeedError> {
    let owner = seed.owner.as_deref().map(parse_owner).transpose()?;
    let folder = seed.to.as_deref().map(|to| to.trim_matches('/')).filter(|to| !to.is_empty());
    let archive = copy_tar(&seed.source, owner, writable)?;
    Ok(VolumeContents { folder: folder.map(str::to_owned), archive })
}
