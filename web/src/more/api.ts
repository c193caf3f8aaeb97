// The calls that the first view has no need of.
import { createClient } from "@connectrpc/connect";
import { BroadcastService } from "../../gen/heedwell/v1/broadcast_service_pb.js";
import { ConversationsService } from "../../gen/heedwell/v1/conversations_service_pb.js";
import { TemplateService } from "../../gen/heedwell/v1/template_service_pb.js";
import { transport } from "../api.js";

export const conversations = createClient(ConversationsService, transport);
export const broadcasts = createClient(BroadcastService, transport);
export const templates = createClient(TemplateService, transport);
