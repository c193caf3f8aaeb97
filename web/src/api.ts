// The calls. The page uses the public API alone; whose calls they are, the browser's cookie says.
import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { DirectoryService } from "../gen/heedwell/v1/directory_service_pb.js";
import { NotifyService } from "../gen/heedwell/v1/notify_service_pb.js";
import { PreferencesService } from "../gen/heedwell/v1/preferences_service_pb.js";

/** Beyond the server's own limit, so that its answer is the one that is shown. */
export const transport = createGrpcWebTransport({ baseUrl: location.origin, defaultTimeoutMs: 35_000 });

export const notify = createClient(NotifyService, transport);
export const directory = createClient(DirectoryService, transport);
export const preferences = createClient(PreferencesService, transport);

/** How often a watch proves that it is alive. */
export const HEARTBEAT_SECONDS = 5;

/** Options of a watch: it lasts as long as the server lets it. */
export const watching = (signal: AbortSignal) => ({ signal, timeoutMs: 0 });

/** A key under which a call happens once, however often it is repeated. */
export const requestId = () => crypto.randomUUID();
