// What a client of Heedwell does about errors. Nothing in this file or in deliveries.ts needs Node: a page gives them the
// transport of @connectrpc/connect-web instead.
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.js";

/** For each call: whoever renews the token does so before the old one ends. */
export const bearer = (token: () => Promise<string>): Interceptor => (next) => async (request) => {
  request.header.set("authorization", `Bearer ${await token()}`);
  return next(request);
};

/** The limit of a call that is no stream. Those that service_config.json gives 30 s take `timeoutMs` as an option. */
export const DEADLINE_MS = 10_000;

/** The retry policy of service_config.json, which this library does not read. It bridges a moment; `Pauses` bridge the rest. */
export const retries: Interceptor = (next) => async (request) => {
  // A stream that has begun is not repeated but resumed, by whoever knows its cursor.
  if (request.stream) return next(request);
  for (let attempt = 1; ; attempt++) {
    try {
      return await next(request);
    } catch (cause) {
      if (attempt === 4 || !isUnavailable(ConnectError.from(cause))) throw cause;
      await sleep(Math.random() * Math.min(5_000, 200 * 2 ** (attempt - 1)));
    }
  }
};

/** One of the reasons in errors.proto; every error of the server has one. */
export const reason = (error: ConnectError) => error.findDetails(ErrorInfoSchema)[0]?.reason ?? "";

/** Which fields of a request were wrong, and why. */
export const violations = (error: ConnectError) =>
  error.findDetails(BadRequestSchema).flatMap(({ fieldViolations }) => fieldViolations.map(({ field, description }) => ({ field, description })));

/** The server is not there. A call whose connection breaks is one that Node calls aborted or cancelled. */
const isUnavailable = (error: ConnectError) =>
  error.code === Code.Unavailable || ([Code.Aborted, Code.Canceled].includes(error.code) && !reason(error));

/** After these the same call may do. Every call may be repeated: requestId sees to it that it happens once. */
const PASSING = [
  Code.DeadlineExceeded,
  Code.ResourceExhausted,
  Code.Internal,
  Code.Unauthenticated, // By then there may be a new token.
];

export const isPassing = (error: ConnectError) => isUnavailable(error) || PASSING.includes(error.code);

/** A token that is refused for so long is not going to be renewed. */
const TOKEN_LIMIT_MS = 300_000;

/** Between the tries of one call. */
export class Pauses {
  #failures = 0;
  #refused: number | undefined;

  /** Waits longer each time, never less than the server asks for, and not as long as everybody else. */
  async wait(error: ConnectError): Promise<void> {
    this.#refused = error.code === Code.Unauthenticated ? (this.#refused ?? performance.now()) : undefined;
    if (this.#refused !== undefined && performance.now() - this.#refused > TOKEN_LIMIT_MS) throw error;
    const [info] = error.findDetails(RetryInfoSchema);
    const asked = info?.retryDelay ? durationMs(info.retryDelay) : 0;
    await sleep(Math.max(asked, 1_000 + Math.random() * Math.min(29_000, 1_000 * 2 ** this.#failures++)));
  }
}

export const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
