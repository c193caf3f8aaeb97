// A server with stand-ins for its providers, as processes of their own, so that it can be killed under an open page.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const BINARY = process.env.HEEDWELL_BIN ?? "../target/debug/heedwell";

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

export class Server {
  #process: ChildProcess | undefined;
  #log: string[] = [];

  private constructor(
    readonly sandbox: ChildProcess,
    /** Where the stand-ins are, by their names. */
    readonly stands: Map<string, string>,
    readonly folder: string,
    readonly grpc: string,
    readonly http: string,
  ) {}

  static async start(): Promise<Server> {
    const any = ["twilio", "sendgrid", "fcm", "smtp", "control"].flatMap((name) => [`--${name}-addr`, "127.0.0.1:0"]);
    const sandbox = spawn(BINARY, ["sandbox", ...any], { stdio: ["ignore", "pipe", "inherit"] });
    const stands = new Map<string, string>();
    if (!sandbox.stdout) throw new Error("no output");
    for await (const line of createInterface(sandbox.stdout)) {
      const [name = "", address = ""] = line.split(/\s+/);
      stands.set(name, address);
      if (name === "control") break;
    }
    const folder = mkdtempSync(join(tmpdir(), "heedwell-web-"));
    const server = new Server(sandbox, stands, folder, `127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`);
    await server.up();
    return server;
  }

  get url(): string {
    return `http://${this.http}`;
  }

  get #env(): NodeJS.ProcessEnv {
    // A setting that it does not know would stop it.
    const kept = Object.entries(process.env).filter(([name]) => !name.startsWith("HEEDWELL_"));
    return {
      ...Object.fromEntries(kept),
      HEEDWELL_DATA_DIR: this.folder,
      HEEDWELL_GRPC_ADDR: this.grpc,
      HEEDWELL_HTTP_ADDR: this.http,
      HEEDWELL_METRICS_ADDR: "off",
      HEEDWELL_TWILIO_URL: this.stands.get("twilio"),
      HEEDWELL_SENDGRID_URL: this.stands.get("sendgrid"),
      HEEDWELL_FCM_URL: this.stands.get("fcm"),
      HEEDWELL_GOOGLE_TOKEN_URL: this.stands.get("google"),
      HEEDWELL_ALLOW_PRIVATE_PROVIDERS: "on",
      HEEDWELL_DRAIN_SECONDS: "0",
      HEEDWELL_DISK_RESERVE_MIB: "8",
      HEEDWELL_SMS_RATE: "unlimited",
      HEEDWELL_SMS_PER_DAY: "unlimited",
      HEEDWELL_SMS_PER_BLOCK: "unlimited",
      HEEDWELL_CALLS_PER_SECOND: "unlimited",
      RUST_LOG: "warn,heedwell::cli=info",
    };
  }

  /** Starts it; when this returns, it serves. */
  async up(): Promise<void> {
    const serving = spawn(BINARY, ["serve"], { env: this.#env, stdio: ["ignore", "inherit", "pipe"] });
    this.#process = serving;
    if (!serving.stderr) throw new Error("no output");
    const lines = createInterface(serving.stderr);
    await new Promise<void>((resolve, reject) => {
      lines.on("line", (line) => {
        this.#log.push(line);
        if (line.includes("serving")) resolve();
      });
      serving.once("exit", () => reject(new Error(`the server ended: ${this.#log.join("\n")}`)));
    });
    serving.removeAllListeners("exit");
  }

  /** Ends it as a power cut would. */
  async kill(): Promise<void> {
    const running = this.#process;
    this.#process = undefined;
    if (!running || running.exitCode !== null) return;
    running.kill("SIGKILL");
    await once(running, "exit");
  }

  /** Copies what is stored, as a backup would, while it does not run. */
  keep(): void {
    for (const file of this.#files()) copyFileSync(join(this.folder, file), join(this.folder, `kept-${file}`));
  }

  /** Goes back to that, and says that it may send again: a copy does not by itself. */
  restore(): void {
    for (const file of this.#files()) rmSync(join(this.folder, file));
    for (const file of readdirSync(this.folder).filter((name) => name.startsWith("kept-"))) {
      renameSync(join(this.folder, file), join(this.folder, file.slice("kept-".length)));
    }
    execFileSync(BINARY, ["resume", "--send-pending"], { env: this.#env, stdio: "ignore" });
  }

  /** Changes what is stored, as years would. */
  age(statement: string): void {
    const script = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], timeout=10); db.execute(sys.argv[2]); db.commit()";
    execFileSync("python3", ["-c", script, join(this.folder, "heedwell.db"), statement]);
  }

  #files = () => readdirSync(this.folder).filter((name) => name.startsWith("heedwell.db"));

  async stop(): Promise<void> {
    await this.kill();
    this.sandbox.kill("SIGKILL");
    await once(this.sandbox, "exit");
    rmSync(this.folder, { recursive: true, force: true });
  }

  token(practice: string, ...roles: string[]): string {
    return this.tokenOf("robin", practice, ...roles);
  }

  tokenOf(subject: string, practice: string, ...roles: string[]): string {
    const named = roles.flatMap((role) => ["--role", role]);
    const args = ["token", "--practice", practice, "--subject", subject, ...named];
    return execFileSync(BINARY, args, { env: this.#env, encoding: "utf8" }).trim();
  }

  /** Tells the stand-ins something. */
  async tell(path: string, body: unknown): Promise<Response> {
    const answer = await fetch(`${this.stands.get("control")}${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return answer;
  }
}
