//! Files of messages: what is uploaded, and how files are shown and read.

use futures::{Stream, StreamExt, stream::once};
use prost::Message;
use tokio::time::Instant;
use tonic::Status;

use super::check::{Check, request_id};
use crate::{
    domain::{Attachment, AttachmentId, LARGEST_UPLOAD, MediaType, Phi},
    grpc::{proto, status},
    service::{
        Error,
        conversations::{Download, Upload},
    },
};

/// The longest name of a file, in characters.
const LONGEST_NAME: usize = 128;

/// Which file is to be stored.
pub(crate) fn upload(mut request: proto::UploadAttachmentRequest) -> Result<Upload, Error> {
    let mut check = Check::default();
    let request_id = request_id(&mut check, std::mem::take(&mut request.request_id));
    // Without the key: what a repeat is recognised by.
    let canonical = Phi::new(request.encode_to_vec());
    let file_name = Phi::new(file_name(&mut check, request.file_name));
    let media_type = check.parsed("media_type", &request.media_type, |text| {
        MediaType::from_name(text).ok_or("must be image/jpeg, image/png, image/gif, application/pdf or text/plain")
    });
    let content = request.content;
    let fits = (1..=LARGEST_UPLOAD).contains(&content.len());
    check.expect("content", fits, "must have 1 byte to 3 MiB");
    // What is too long is not looked at; what is of no type that is kept cannot be of the one that it is said to be.
    if let Some(said) = media_type.filter(|_| fits) {
        let is_said = MediaType::of(&content) == Some(said);
        check.expect("content", is_said, format!("must be what media_type says: it is no {}", said.name()));
    }
    let content = Phi::new(content.into());
    check.finish(media_type.map(|media_type| Upload { request_id, canonical, file_name, media_type, content }))
}

/// A name, and no way to anywhere: files are stored under it by whoever downloads them.
fn file_name(check: &mut Check, name: String) -> String {
    let path = name.contains(['/', '\\']) || name == "." || name == "..";
    check.expect("file_name", !path, "must be a name without a path");
    if !path && !name.trim().is_empty() {
        check.legible("file_name", &name);
    }
    // What is not seen can make a name look as if it ended otherwise.
    check.required_name("file_name", name, LONGEST_NAME)
}

/// Which file is to be read.
pub(crate) fn wanted(id: &str) -> Result<AttachmentId, Error> {
    let mut check = Check::default();
    let id = check.id("attachment_id", id);
    check.finish(id)
}

/// A file.
pub(crate) fn shown(file: Attachment) -> proto::Attachment {
    proto::Attachment {
        attachment_id: file.id.to_string(),
        file_name: file.file_name.into_inner(),
        media_type: file.media_type,
        size_bytes: file.size,
        state: file.state.number().into(),
    }
}

/// A file in parts, the first of which says what it is. It ends when the caller has given up.
pub(crate) fn parts(
    file: Download,
    deadline: Option<Instant>,
) -> impl Stream<Item = Result<proto::DownloadAttachmentResponse, Status>> + Send {
    let attachment = Some(shown(file.attachment.clone()));
    let first = once(async move { Ok(proto::DownloadAttachmentResponse { attachment, ..Default::default() }) });
    let rest = file.parts().map(move |part| {
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(status::deadline_exceeded());
        }
        let data = part?.into_inner().into();
        Ok(proto::DownloadAttachmentResponse { data, ..Default::default() })
    });
    first.chain(rest)
}
