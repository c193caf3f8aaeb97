import { readFile } from "node:fs/promises";
import type { Page, Route } from "@playwright/test";
import { expect, live, row, test } from "./world.js";

const PATS = "+12025550142";

/** The next call to what is named, which goes no further by itself. */
const held = (page: Page, url: string) => new Promise<Route>((resolve) => void page.route(url, resolve, { times: 1 }));

test("a text comes in, is read, answered, assigned and closed", async ({ page, world }) => {
  await world.open(page, "#/conversations");
  await expect(page.getByRole("heading", { name: "No conversations yet" })).toBeVisible();
  await live(page);
  await world.text(PATS, "May I come at 3 instead?");
  const item = page.locator(".threads a");
  await expect(item).toContainText("1 unread");
  await expect(item).toContainText("Waits since");
  await item.click();
  await expect(page.getByRole("heading", { name: "Pat Doe" })).toBeVisible();
  await expect(page.locator(".bubble")).toHaveText("May I come at 3 instead?");
  await expect(item).not.toContainText("unread");
  await page.getByRole("textbox", { name: "Message" }).fill("Yes, see you at 3.");
  await page.getByRole("button", { name: "Send", exact: true }).click();
  await expect(page.locator(".message.ours")).toContainText("Yes, see you at 3.");
  await expect(page.locator(".message.ours")).toContainText("Delivered");
  await expect(item).not.toContainText("Waits since");
  await page.getByRole("button", { name: "Assign to me" }).click();
  await expect(item).toContainText("Yours");
  await page.getByRole("button", { name: "Close", exact: true }).click();
  await expect(page.getByRole("button", { name: "Open again" })).toBeVisible();
  await page.locator("h1").hover({ force: true });
  await expect(item).toHaveCount(0);
  await page.getByRole("checkbox", { name: "Closed too" }).check();
  await expect(item).toContainText("Closed");
});

test("whoever texted STOP is answered by portal alone", async ({ page, world }) => {
  await world.text(PATS, "Hello");
  await world.open(page, "#/conversations");
  await page.locator(".threads a").click();
  await expect(page.getByRole("radio", { name: "SMS" })).toBeChecked();
  await world.text(PATS, "STOP");
  await expect(page.locator(".message").last()).toContainText("Changed consent");
  await expect(page.getByText("Opted out of SMS")).toBeVisible();
  await page.getByRole("radio", { name: "SMS" }).check();
  await page.getByRole("textbox", { name: "Message" }).fill("One more thing");
  await expect(page.getByRole("button", { name: "Send", exact: true })).toBeDisabled();
  await page.getByRole("radio", { name: "Portal" }).check();
  await page.getByRole("button", { name: "Send", exact: true }).click();
  await expect(page.locator(".message.ours")).toContainText("by portal");
});

test("words that ask to stop wait for staff", async ({ page, world }) => {
  await world.text(PATS, "please stop texting me");
  await world.open(page, "#/conversations?subset=stop");
  await page.locator(".threads a").click();
  await expect(page.getByText("Taken for a request to stop")).toBeVisible();
});

test("an unknown number is linked to a patient", async ({ page, world }) => {
  await world.text("+12025550177", "It is Bo, my new number.");
  await world.open(page, "#/conversations?subset=unlinked");
  await page.locator(".threads a").click();
  await expect(page.getByText("Nobody is known to have this number")).toBeVisible();
  await page.getByLabel("Somebody else").fill("Bo");
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByRole("button", { name: "Bo Bare" }).click();
  await page.getByRole("checkbox", { name: "It is also the patient" }).check();
  await page.getByRole("dialog").getByRole("button", { name: "Link" }).click();
  await expect(page.getByRole("heading", { name: "Bo Bare", exact: true })).toBeVisible();
  const number = async () => (await world.directory.getPatient({ practiceId: world.id, patientId: "bare" })).patient?.mobilePhone;
  await expect.poll(number).toBe("+12025550177");
  await expect(page.getByText("Nobody is known to have this number")).toHaveCount(0);
  await expect(page.locator(".bubble")).toHaveText("It is Bo, my new number.");
});

test("a conversation begins from the patient's page", async ({ page, world }) => {
  await world.open(page, "#/patients/pat");
  await page.getByRole("link", { name: "Conversation", exact: true }).click();
  await page.getByRole("textbox", { name: "Message" }).fill("Please call us.");
  await page.getByRole("button", { name: "Send", exact: true }).click();
  await expect(page.locator(".message.ours")).toContainText("Please call us.");
  await page.goto(`${world.server.url}/#/deliveries`);
  await expect(row(page, "Conversation", "SMS")).toHaveCount(1);
});

test("files go both ways", async ({ page, world }) => {
  await world.text(PATS, "Here is the card.", ["note"]);
  await world.open(page, "#/conversations");
  await page.locator(".threads a").click();
  const begun = page.waitForEvent("download");
  await page.locator(".message").getByRole("button", { name: "Download file-1.txt" }).click();
  expect(await readFile(await (await begun).path(), "utf8")).toBe("Grüße, Pat\n");

  const send = page.getByRole("button", { name: "Send", exact: true });
  await expect(send).toBeDisabled();
  await page.getByLabel("Attach files").setInputFiles([
    { name: "directions.txt", mimeType: "text/plain", buffer: Buffer.from("Second floor, left.") },
    { name: "wrong.txt", mimeType: "text/plain", buffer: Buffer.from("to be left out") },
  ]);
  await page.getByRole("button", { name: "Leave out wrong.txt" }).click();
  await page.getByRole("radio", { name: "Portal" }).check();
  await send.click();
  const ours = page.locator(".message.ours");
  await expect(ours.getByRole("button", { name: "Download directions.txt" })).toBeVisible();
  await expect(page.getByRole("button", { name: /wrong.txt/ })).toHaveCount(0);

  await page.getByLabel("Attach files").setInputFiles([{ name: "virus.jpg", mimeType: "image/jpeg", buffer: Buffer.from("MZ") }]);
  await expect(page.locator(".uploads").getByRole("alert")).toBeVisible();
  await expect(send).toBeDisabled();
});

test("a message waits for the files that go with it", async ({ page, world }) => {
  await world.text(PATS, "Where do I go?");
  await world.open(page, "#/conversations");
  await page.locator(".threads a").click();
  const text = page.getByRole("textbox", { name: "Message" });
  await text.fill("See the map.");
  await page.getByRole("radio", { name: "Portal" }).check();
  const uploading = held(page, "**/UploadAttachment");
  await page.getByLabel("Attach files").setInputFiles([{ name: "map.txt", mimeType: "text/plain", buffer: Buffer.from("Second floor, left.") }]);
  await expect(page.getByText("Uploading")).toBeVisible();
  await text.press("Control+Enter");
  await expect(page.getByRole("button", { name: "Send", exact: true })).toBeDisabled();
  await (await uploading).continue();
  await expect(page.getByRole("button", { name: "Leave out map.txt" })).toBeVisible();
  await text.press("Control+Enter");
  await expect(page.locator(".message.ours")).toHaveCount(1);
  await expect(page.locator(".message.ours").getByRole("button", { name: "Download map.txt" })).toBeVisible();

  await page.getByLabel("Attach files").setInputFiles([{ name: "scan.pdf", mimeType: "application/pdf", buffer: Buffer.alloc(3 * 1_024 * 1_024 + 1) }]);
  await expect(page.getByRole("alert")).toContainText("“scan.pdf” is larger than 3 MB");
});

test("nothing that is typed is thrown away while a message is being sent", async ({ page, world }) => {
  await world.text(PATS, "Hello");
  await world.open(page, "#/conversations");
  await page.locator(".threads a").click();
  const text = page.getByRole("textbox", { name: "Message" });
  await text.fill("First.");
  const sending = held(page, "**/SendMessage");
  await text.press("Control+Enter");
  const route = await sending;
  await expect(text).not.toBeEditable();
  await route.continue();
  await expect(text).toBeEditable();
  await expect(text).toHaveValue("");
  await expect(page.locator(".message.ours")).toContainText("First.");
});

test("a message whose answer was lost is sent again as it was, and once", async ({ page, world }) => {
  await world.text(PATS, "Hello");
  await world.open(page, "#/conversations");
  await page.locator(".threads a").click();
  const text = page.getByRole("textbox", { name: "Message" });
  await text.fill("Only once.");
  const sending = held(page, "**/SendMessage");
  await page.getByRole("button", { name: "Send", exact: true }).click();
  const route = await sending;
  await route.fetch();
  await route.abort();
  await expect(page.getByText("It is not known whether this was sent")).toBeVisible();
  await expect(text).not.toBeEditable();
  await expect(page.getByRole("radio", { name: "Portal" })).toBeDisabled();
  await page.getByRole("button", { name: "Send again" }).click();
  await expect(text).toBeEditable();
  await expect(text).toHaveValue("");
  await text.fill("Another.");
  await page.getByRole("button", { name: "Send", exact: true }).click();
  await expect(page.locator(".message.ours").last()).toContainText("Another.");
  await expect(page.locator(".message.ours")).toHaveCount(2);
});

test("an ordinary text does not join those who asked to stop", async ({ page, world }) => {
  await world.text("+12025550110", "please stop texting me");
  await world.open(page, "#/conversations?subset=stop");
  const items = page.locator(".threads a");
  await expect(items).toHaveCount(1);
  await live(page);
  const listed = page.waitForResponse("**/ListConversations");
  await world.text(PATS, "May I come at 3 instead?");
  await listed;
  await world.text("+12025550110", "Really.");
  await expect(items.filter({ hasText: "2 unread" })).toBeVisible();
  await expect(items).toHaveCount(1);
  await world.text(PATS, "please stop texting me");
  await expect(items).toHaveCount(2);
});

test("what came behind another tab is read when staff are back", async ({ page, world }) => {
  await page.addInitScript(() => {
    let hidden = false;
    Object.defineProperty(document, "hidden", { get: () => hidden });
    addEventListener("turn", () => {
      hidden = !hidden;
      document.dispatchEvent(new Event("visibilitychange"));
    });
  });
  const turn = () => page.evaluate(() => void dispatchEvent(new Event("turn")));
  await world.text(PATS, "Hello");
  await world.open(page, "#/conversations");
  const item = page.locator(".threads a");
  await item.click();
  await expect(page.locator(".bubble")).toHaveCount(1);
  await expect(item).not.toContainText("unread");
  await live(page);
  await turn();
  await world.text(PATS, "Anybody there?");
  await expect(item).toContainText("1 unread");
  await turn();
  await expect(item).not.toContainText("unread");
});
