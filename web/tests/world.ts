// What each test finds: a practice of its own with patients, and a page that is signed in to it.
import { createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { type Page, test as base, expect } from "@playwright/test";
import { DirectoryService } from "./gen/heedwell/v1/directory_service_pb.js";
import { NotifyService } from "./gen/heedwell/v1/notify_service_pb.js";
import { PreferencesService, SmtpSettings_Security } from "./gen/heedwell/v1/preferences_service_pb.js";
import { Channel } from "./gen/heedwell/v1/types_pb.js";
import { Server } from "./server.js";

export { expect };
export { Channel };

/** Numbers and mailboxes to which the stand-ins do what their name says. */
const PATIENTS = [
  { patientId: "pat", firstName: "Pat", lastName: "Doe", email: "pat@example.com", mobilePhone: "+12025550142", portalEnabled: true },
  { patientId: "off", firstName: "Olga", lastName: "Phone", email: "nouser@example.com", mobilePhone: "+12025550110", portalEnabled: true },
  { patientId: "bare", firstName: "Bo", lastName: "Bare" },
];

let count = 0;

export class World {
  #key = 0;
  readonly account = { account_sid: "AC00000000000000000000000000000001", auth_token: "made-up" };
  /** Its own, since a carrier remembers who texted STOP to which. */
  readonly number = `+1202556${1_000 + count}`;
  readonly notify;
  readonly directory;
  readonly preferences;

  constructor(
    readonly server: Server,
    readonly id: string,
    transport: Transport,
  ) {
    this.notify = createClient(NotifyService, transport);
    this.directory = createClient(DirectoryService, transport);
    this.preferences = createClient(PreferencesService, transport);
  }

  static of(server: Server, id: string): World {
    const token = server.token(id, "operator", "directory", "practice_admin", "sender", "staff");
    const authorised: Interceptor = (next) => (request) => {
      request.header.set("authorization", `Bearer ${token}`);
      return next(request);
    };
    return new World(server, id, createGrpcTransport({ baseUrl: `http://${server.grpc}`, interceptors: [authorised] }));
  }

  async furnish(): Promise<void> {
    await this.server.tell("/accounts", this.account);
    const practice = { legalName: "Acme Primary Care, PLLC", displayName: "Acme Primary Care", timeZone: "America/New_York", phone: "+12025550100" };
    await this.directory.putPractice({ practiceId: this.id, practice });
    await this.directory.batchPutPatients({ practiceId: this.id, patients: PATIENTS });
    const sms = { accountSid: this.account.account_sid, authToken: this.account.auth_token, sender: { case: "fromNumber", value: this.number } as const };
    const [host = "", port = ""] = (this.server.stands.get("smtp") ?? "").split(":");
    const smtp = { host, port: Number(port), security: SmtpSettings_Security.STARTTLS };
    const email = { provider: { case: "smtp", value: smtp } as const, fromAddress: "no-reply@mail.acme.example" };
    const kindChannels = [1, 4, 9].map((kind) => ({ kind, channels: [Channel.IN_APP, Channel.EMAIL, Channel.SMS] }));
    await this.preferences.updatePracticeSettings({
      practiceId: this.id,
      settings: { sms, email, kindChannels },
      updateMask: { paths: ["sms", "email", "kind_channels"] },
    });
  }

  /** Sends a notice over these channels. */
  async send(patientId: string, channels: Channel[], more: { hours?: number; reference?: string } = {}) {
    const scheduleTime = more.hours ? { seconds: BigInt(Math.floor(Date.now() / 1_000) + more.hours * 3_600), nanos: 0 } : undefined;
    const payload = { case: "system", value: { title: "Hello", body: "The office moves to the second floor." } } as const;
    const notification = { patientId, payload, channels, scheduleTime, reference: more.reference ?? "" };
    const answer = await this.notify.sendNotification({ practiceId: this.id, requestId: `send-${this.#key++}`, notification });
    if (!answer.notification) throw new Error("nothing was made");
    return answer.notification;
  }

  /** A text comes in from a phone. */
  async text(from: string, body: string, media: string[] = []): Promise<void> {
    const url = `${this.server.url}/webhooks/twilio/${this.id}/inbound`;
    const answer = await this.server.tell("/inbound", { url, account_sid: this.account.account_sid, from, to: this.number, body, media });
    expect((await answer.json()).http_status).toBe(200);
  }

  /** Opens the page, signed in in these roles. */
  async open(page: Page, hash = "", ...roles: string[]): Promise<void> {
    const token = this.server.token(this.id, ...(roles.length > 0 ? roles : ["practice_admin"]));
    await page.goto(`${this.server.url}/#token=${token}`);
    await page.getByRole("button", { name: "Sign in" }).click();
    await expect(page.getByRole("navigation", { name: "Views" })).toBeVisible();
    // Out of the way: rows stand still under a pointer.
    await page.mouse.move(1, 1);
    if (hash) await page.goto(`${this.server.url}/${hash}`);
  }
}

export const test = base.extend<{ world: World; honest: void }, { server: Server }>({
  server: [
    async ({}, use) => {
      const server = await Server.start();
      await use(server);
      await server.stop();
    },
    { scope: "worker", timeout: 120_000 },
  ],
  world: async ({ server }, use) => {
    const world = World.of(server, `acme-${process.pid}-${count++}`);
    await world.furnish();
    await use(world);
  },
  // Whatever else a test looks at: no script fails, and nothing is asked for that the policy forbids.
  honest: [
    async ({ page }, use) => {
      const faults: string[] = [];
      page.on("pageerror", (error) => faults.push(error.message));
      page.on("console", (message) => {
        if (message.type() === "error" && !/Failed to load resource/.test(message.text())) faults.push(message.text());
      });
      await use();
      expect(faults).toEqual([]);
    },
    { auto: true },
  ],
});

/** The row of a delivery over a channel, whatever order they are in. */
export const row = (page: Page, ...texts: string[]) =>
  texts.reduce((rows, text) => rows.filter({ hasText: text }), page.locator("table.deliveries tbody tr"));

export const live = (page: Page) => expect(page.locator(".badge")).toHaveText("Live");
