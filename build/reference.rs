//! The contract as a page to read: every service, call, message, field and enum value with its comment, each at an address of its
//! own, and linked to what it names. No script, and its style is a file beside it.

mod prose;

use std::collections::HashMap;

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

use prose::Names;

const PACKAGE: &str = "heedwell.v1";

/// Where in a file's descriptor something stands (`SourceCodeInfo.Location.path`): numbers of fields of descriptor.proto.
mod at {
    pub(super) const FILE_MESSAGE: i32 = 4;
    pub(super) const FILE_ENUM: i32 = 5;
    pub(super) const FILE_SERVICE: i32 = 6;
    pub(super) const SERVICE_METHOD: i32 = 2;
    pub(super) const MESSAGE_FIELD: i32 = 2;
    pub(super) const MESSAGE_MESSAGE: i32 = 3;
    pub(super) const MESSAGE_ENUM: i32 = 4;
    pub(super) const MESSAGE_ONEOF: i32 = 8;
    pub(super) const ENUM_VALUE: i32 = 2;
}

/// The page.
pub(crate) fn page(set: &FileDescriptorSet) -> String {
    let mut files: Vec<_> = set.file.iter().filter(|file| file.package() == PACKAGE).collect();
    // What one calls, before what that is made of.
    files.sort_by_key(|file| (file.service.is_empty(), file.name()));
    let names = Names::new(&files);
    let sections: String = files.iter().map(|file| Section::new(file, &names).html()).collect();
    format!(
        r##"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>API reference – Heedwell</title>
<link rel="stylesheet" href="/reference.css">
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header><a class="brand" href="/">Heedwell</a> <span>API reference, {PACKAGE}</span></header>
{}
<main id="main" tabindex="-1">
<h1>API reference</h1>
{sections}</main>
</body>
</html>
"##,
        contents(&files)
    )
}

fn contents(files: &[&FileDescriptorProto]) -> String {
    let mut services = String::new();
    for service in files.iter().flat_map(|file| &file.service) {
        let name = service.name();
        let calls: String =
            service.method.iter().map(|method| entry(&format!("{name}.{}", method.name()), method.name())).collect();
        services += &format!("<li><a href=\"#{name}\">{name}</a><ul>{calls}</ul></li>\n");
    }
    let mut types: Vec<&str> = Vec::new();
    for file in files {
        types.extend(file.message_type.iter().map(DescriptorProto::name));
        types.extend(file.enum_type.iter().map(EnumDescriptorProto::name));
    }
    types.sort_unstable();
    let types: String = types.into_iter().map(|name| entry(name, name)).collect();
    format!(
        "<nav aria-label=\"Contents\">\n<h2>Services</h2>\n<ul>\n{services}</ul>\n\
         <details><summary>Messages and enums</summary>\n<ul>\n{types}</ul></details>\n</nav>"
    )
}

fn entry(id: &str, name: &str) -> String {
    format!("<li><a href=\"#{id}\">{name}</a></li>\n")
}

/// What one file holds.
struct Section<'a> {
    file: &'a FileDescriptorProto,
    names: &'a Names,
    /// By path: what stands above it, apart from it and directly.
    comments: HashMap<&'a [i32], (String, &'a str)>,
}

impl<'a> Section<'a> {
    fn new(file: &'a FileDescriptorProto, names: &'a Names) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let comments = locations
            .map(|it| (it.path.as_slice(), (it.leading_detached_comments.join("\n\n"), it.leading_comments())))
            .collect();
        Self { file, names, comments }
    }

    fn html(&self) -> String {
        let name = self.file.name().rsplit('/').next().unwrap_or_default();
        let mut html = format!("<h2 class=\"file\">{name}</h2>\n");
        for (number, service) in (0..).zip(&self.file.service) {
            html += &self.service(&[at::FILE_SERVICE, number], service);
        }
        for (number, message) in (0..).zip(&self.file.message_type) {
            html += &self.message(&[at::FILE_MESSAGE, number], message.name(), message);
        }
        for (number, each) in (0..).zip(&self.file.enum_type) {
            html += &self.enumeration(&[at::FILE_ENUM, number], each.name(), each);
        }
        html
    }

    fn service(&self, path: &[i32], service: &ServiceDescriptorProto) -> String {
        let name = service.name();
        let mut html = self.head(path, name, "Service");
        for (number, method) in (0..).zip(&service.method) {
            let (call, stream) = (method.name(), if method.server_streaming() { "a stream of " } else { "" });
            let (takes, returns) = (self.link(method.input_type()), self.link(method.output_type()));
            html += &format!(
                "<div class=\"call\" id=\"{name}.{call}\">\n<h4><a href=\"#{name}.{call}\">{call}</a></h4>\n\
                 <p class=\"signature\">Takes {takes}, returns {stream}{returns}</p>\n{}</div>\n",
                self.names.prose(self.comment(path, at::SERVICE_METHOD, number), true)
            );
        }
        html + "</section>\n"
    }

    fn message(&self, path: &[i32], name: &str, message: &DescriptorProto) -> String {
        let mut html = self.head(path, name, "Message") + "<dl>\n";
        let mut shown = None;
        for (number, field) in (0..).zip(&message.field) {
            let group = field.oneof_index.filter(|_| !field.proto3_optional());
            if let Some(group) = group.filter(|_| group != shown) {
                let oneof = usize::try_from(group).ok().and_then(|group| message.oneof_decl.get(group));
                let title = format!("At most one of <b>{}</b>:", oneof.map_or("", |oneof| oneof.name()));
                html += &self.row("class=\"oneof\"", &title, self.comment(path, at::MESSAGE_ONEOF, group));
            }
            shown = group;
            let place = format!("{name}.{}", field.name());
            let class = if group.is_some() { " class=\"arm\"" } else { "" };
            let title = title(&place, field.name(), &self.kind_and_number(message, field));
            html += &self.row(&format!("id=\"{place}\"{class}"), &title, self.comment(path, at::MESSAGE_FIELD, number));
        }
        html += "</dl>\n</section>\n";
        html + &self.nested(path, name, message)
    }

    fn nested(&self, path: &[i32], name: &str, message: &DescriptorProto) -> String {
        let mut html = String::new();
        for (number, nested) in (0..).zip(&message.nested_type).filter(|(_, nested)| !is_map(nested)) {
            let path = [path, &[at::MESSAGE_MESSAGE, number]].concat();
            html += &self.message(&path, &format!("{name}.{}", nested.name()), nested);
        }
        for (number, nested) in (0..).zip(&message.enum_type) {
            let path = [path, &[at::MESSAGE_ENUM, number]].concat();
            html += &self.enumeration(&path, &format!("{name}.{}", nested.name()), nested);
        }
        html
    }

    fn enumeration(&self, path: &[i32], name: &str, each: &EnumDescriptorProto) -> String {
        let mut html = self.head(path, name, "Enum") + "<dl>\n";
        for (number, value) in (0..).zip(&each.value) {
            let place = format!("{name}.{}", value.name());
            let title = title(&place, value.name(), &format!("= {}", value.number()));
            html += &self.row(&format!("id=\"{place}\""), &title, self.comment(path, at::ENUM_VALUE, number));
        }
        html + "</dl>\n</section>\n"
    }

    /// Opens a section.
    fn head(&self, path: &[i32], name: &str, what: &str) -> String {
        let (apart, own) = self.comments.get(path).map_or(("", ""), |(apart, own)| (apart.as_str(), *own));
        format!(
            "{}<section id=\"{name}\">\n<h3><a href=\"#{name}\">{name}</a> <small>{what}</small></h3>\n{}",
            self.names.prose(apart, false),
            self.names.prose(own, false)
        )
    }

    fn row(&self, attributes: &str, title: &str, comment: &str) -> String {
        format!("<div {attributes}><dt>{title}</dt><dd>{}</dd></div>\n", self.names.prose(comment, false))
    }

    fn kind_and_number(&self, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
        let nested = message.nested_type.iter().find(|it| field.type_name().ends_with(&format!(".{}", it.name())));
        let kind = match nested.filter(|nested| is_map(nested)).map(|entry| entry.field.as_slice()) {
            Some([key, value]) => format!("map of {} to {}", self.kind(key), self.kind(value)),
            _ if field.label() == Label::Repeated => format!("repeated {}", self.kind(field)),
            _ if field.proto3_optional() => format!("optional {}", self.kind(field)),
            _ => self.kind(field),
        };
        let deprecated = field.options.as_ref().is_some_and(|options| options.deprecated());
        let kind = if deprecated { format!("{kind}, deprecated") } else { kind };
        format!("{kind} = {}", field.number())
    }

    /// A field's type as the contract writes it.
    fn kind(&self, field: &FieldDescriptorProto) -> String {
        match field.r#type() {
            Type::Message | Type::Enum => self.link(field.type_name()),
            scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
        }
    }

    /// A type's name, which leads to it.
    fn link(&self, type_name: &str) -> String {
        let name = type_name.trim_start_matches('.');
        if let Some(own) = name.strip_prefix(PACKAGE).map(|own| own.trim_start_matches('.')) {
            return format!("<a href=\"#{own}\">{own}</a>");
        }
        let short = name.rsplit('.').next().unwrap_or(name);
        let public = "https://protobuf.dev/reference/protobuf/google.protobuf/";
        format!("<a href=\"{public}#{}\">{name}</a>", short.to_lowercase())
    }

    fn comment(&self, path: &[i32], kind: i32, number: i32) -> &'a str {
        self.comments.get([path, &[kind, number]].concat().as_slice()).map_or("", |(_, own)| own)
    }
}

fn title(place: &str, name: &str, rest: &str) -> String {
    format!("<a href=\"#{place}\">{name}</a> <span>{rest}</span>")
}

fn is_map(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|options| options.map_entry())
}
