import { expect, live, row, test } from "./world.js";

const PATS = "+12025550142";

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
