// Uses the types that openapi-typescript generates, with openapi-fetch: node typescript_client.js SERVER LINK.
import { createHash } from "node:crypto";
import { strict as assert } from "node:assert";
import createClient from "openapi-fetch";
import type { components, paths } from "./ytmp3.js";

type Job = components["schemas"]["JobView"];

const LAST_MILLISECONDS = 300_000;
const [server, link] = process.argv.slice(2) as [string, string];
const client = createClient<paths>({ baseUrl: server });

async function converted(): Promise<Job> {
  const created = await client.POST("/extract", { body: { url: link, quality: "128k" } });
  assert(created.data, created.error?.detail);
  let job: Job = created.data;
  const deadline = Date.now() + LAST_MILLISECONDS;
  while ((job.status === "pending" || job.status === "processing") && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    const read = await client.GET("/status/{job_id}", { params: { path: { job_id: job.job_id } } });
    assert(read.data, read.error?.detail);
    job = read.data;
  }
  assert.equal(job.status, "completed", job.error?.message);
  return job;
}

const health = await client.GET("/health");
const readiness: "ok" | "degraded" | "draining" | "unready" | undefined = health.data?.status;
assert.equal(readiness, "ok");
assert.equal(health.data?.checks["store"]?.ok, true);

const job = await converted();
const path = { job_id: job.job_id };
const track = await client.GET("/download/{job_id}.mp3", { params: { path }, parseAs: "arrayBuffer" });
assert(track.data);
const content = Buffer.from(track.data);
assert.equal(createHash("sha256").update(content).digest("hex"), job.file?.sha256);

const stats = await client.GET("/stats");
const done: number | undefined = stats.data?.since_start.conversions.done;
assert(done !== undefined && done >= 1);
assert((stats.data?.jobs?.completed ?? 0) >= 1);

const unknown = await client.GET("/status/{job_id}", { params: { path: { job_id: "0".repeat(34) } } });
assert.equal(unknown.error?.code, "job_unknown");

const batch = await client.POST("/batches", { body: { urls: [link, "https://example.org/"] } });
assert(batch.data, batch.error?.detail);
const items = await client.GET("/batches/{batch_id}/items", { params: { path: { batch_id: batch.data.batch_id } } });
assert.equal(items.data?.items[1]?.error?.code, "unsupported_url");

const cancelled = await client.DELETE("/jobs/{job_id}", { params: { path } });
assert.equal(cancelled.data?.job_id, job.job_id);
console.log(`${content.length} bytes of '${job.metadata?.title}'`);
