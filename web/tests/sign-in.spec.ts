import type { Request } from "@playwright/test";
import { Channel, expect, live, test } from "./world.js";

test("a bad token is refused in words, a good one is handed over and never seen again", async ({ page, world }) => {
  await page.goto(world.server.url);
  await page.getByLabel("Token").fill("eyJ.e30.none");
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByRole("alert")).toContainText("does not let anyone in");
  const token = world.server.token(world.id, "staff");
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await live(page);
  const [cookie] = await page.context().cookies();
  expect(cookie).toMatchObject({ name: "heedwell", value: token, httpOnly: true, sameSite: "Strict" });
  const kept = await page.evaluate(() => [document.cookie, JSON.stringify({ ...localStorage, ...sessionStorage }), location.href].join());
  expect(kept).not.toContain(token.slice(0, 20));
  await page.reload();
  await live(page);
});

test("a link with a token signs in by one press, and leaves no token in the address", async ({ page, world }) => {
  await world.open(page);
  await live(page);
  expect(page.url()).not.toContain("token");
  await page.goBack();
  expect(page.url()).not.toContain("token");
});

test("whoever is signed out signs in again and is where they were", async ({ page, world }) => {
  await world.send("pat", [Channel.IN_APP]);
  const open = new Set<Request>();
  page.on("request", (each) => open.add(each));
  page.on("requestfinished", (each) => open.delete(each));
  page.on("requestfailed", (each) => open.delete(each));
  await world.open(page, "#/deliveries?state=delivered");
  // The stream of the first view would say that it is live as well.
  await page.reload();
  await live(page);
  // Whatever is still being asked for would be refused by itself, before anything is pressed.
  await expect.poll(() => [...open].filter((each) => !each.url().includes("/Watch")).length).toBe(0);
  await page.context().clearCookies();
  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByRole("button", { name: "Go on" }).click();
  await expect(page.getByText("You are signed out. Sign in to go on")).toBeVisible();
  await page.getByLabel("Token").fill(world.server.token(world.id, "staff"));
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.locator("table.deliveries tbody tr")).toHaveCount(1);
  expect(page.url()).toContain("state=delivered");
});

test("signing out forgets the cookie", async ({ page, world }) => {
  await world.open(page);
  await page.getByText("robin").click();
  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(page.getByLabel("Token")).toBeVisible();
  expect(await page.context().cookies()).toEqual([]);
  await page.reload();
  await expect(page.getByLabel("Token")).toBeVisible();
});

test("a role that is missing is named", async ({ page, world }) => {
  await world.open(page, "", "directory");
  await expect(page.getByRole("alert")).toContainText("needs the role “sender”");
  await expect(page.locator(".badge")).toHaveText("Not connected");
});

test("two tabs are the same person, whoever that is", async ({ context, page, world }) => {
  await world.text("+12025550142", "Hello");
  await world.open(page, "#/conversations");
  await page.locator(".threads a").click();
  const text = page.getByRole("textbox", { name: "Message" });
  await text.fill("Written by Robin");

  const other = await context.newPage();
  await other.goto(`${world.server.url}/#token=${world.server.tokenOf("casey", world.id, "staff")}`);
  await expect(other.getByText("You are signed in as robin")).toBeVisible();
  await other.getByRole("button", { name: "Stay signed in" }).click();
  await expect(other.locator(".account summary")).toHaveText("robin");
  await expect(text).toHaveValue("Written by Robin");

  await other.goto(`${world.server.url}/#token=${world.server.tokenOf("casey", world.id, "staff")}`);
  await other.getByRole("button", { name: "Sign in", exact: true }).click();
  await expect(other.locator(".account summary")).toHaveText("casey");
  await expect(page.locator(".account summary")).toHaveText("casey");
  await expect(text).toHaveValue("");

  await text.fill("Written by Casey");
  await other.locator(".account summary").click();
  await other.getByRole("button", { name: "Sign out" }).click();
  await expect(other.getByLabel("Token")).toBeVisible();
  await expect(page.getByLabel("Token")).toBeVisible();
  expect(page.url()).not.toContain("conversations");
  await page.getByLabel("Token").fill(world.server.token(world.id, "staff"));
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.goto(`${world.server.url}/#/conversations`);
  await page.locator(".threads a").click();
  await expect(text).toHaveValue("");
});

test("a tab that is looked at again asks whose it is", async ({ page, world }) => {
  await world.open(page);
  await live(page);
  const data = world.server.tokenOf("casey", world.id, "staff");
  const answer = await page.request.post(`${world.server.url}/sign-in`, { data, headers: { "content-type": "text/plain", origin: world.server.url } });
  expect(answer.ok()).toBe(true);
  await page.evaluate(() => void dispatchEvent(new Event("focus")));
  await expect(page.locator(".account summary")).toHaveText("casey");
});

test("a sign-out that fails says so", async ({ page, world }) => {
  await world.open(page);
  await page.route("**/sign-out", (route) => route.abort(), { times: 1 });
  await page.locator(".account summary").click();
  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(page.getByRole("alert")).toContainText("You are still signed in");
  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(page.getByLabel("Token")).toBeVisible();
});

test("whoever has one practice sees that, whatever an address names", async ({ page, world }) => {
  await world.open(page, "#/deliveries?practice=another");
  await page.reload();
  await live(page);
  await expect(page.locator(".practice")).toHaveText("Acme Primary Care");
});
