// The texts that the list shows for a job.

const STAGES = {
  queued: "Starting",
  extracting: "Asking YouTube",
  downloading: "Downloading",
  converting: "Converting",
  publishing: "Checking the file",
  done: "Ready",
};

export function titleOf(job) {
  return job.metadata?.title || job.url.replace(/^https:\/\/(www\.)?/, "");
}

export function detailOf(job) {
  const seconds = job.file?.duration_seconds ?? job.metadata?.duration_seconds;
  const parts = [job.metadata?.artist ?? job.metadata?.uploader, seconds && duration(seconds), recipeOf(job), job.file && size(job.file.size_bytes)];
  return parts.filter(Boolean).join(" · ");
}

// What was asked for: "MP3 192k de -14 LUFS 1:30-2:00", or "OPUS" for a format that is copied.
export function recipeOf({ format, quality, language, loudness, start_seconds: start, end_seconds: end }) {
  const part = start == null && end == null ? null : `${duration(start ?? 0)}-${end == null ? "" : duration(end)}`;
  const target = /^-/.test(loudness) ? `${loudness} LUFS` : null;
  const parts = [format.toUpperCase(), quality, language === "original" ? null : language, target, part];
  return parts.filter(Boolean).join(" ");
}

export function stateOf(job) {
  switch (job.status) {
    case "pending":
      if (job.error) return `${job.error.message} Trying again${remaining(job.eta_seconds)}.`;
      return `Waiting${job.queue_position ? `, number ${job.queue_position} in the queue` : ""}${remaining(job.eta_seconds)}`;
    case "processing":
      return `${STAGES[job.stage] ?? "Working"}, ${Math.floor(job.progress * 100)} %${remaining(job.eta_seconds)}`;
    case "completed":
      return `Ready${job.expires_at ? `, kept until ${until(job.expires_at)}` : ""}`;
    case "failed":
      return job.error?.message ?? "The conversion failed.";
    default:
      return "Cancelled";
  }
}

// The text for screen readers: the stage, but not each percent.
export function spokenOf(job) {
  const stage = job.status === "processing" ? STAGES[job.stage] ?? "Working" : stateOf(job).split(",")[0];
  return `${titleOf(job)}: ${stage}`;
}

export function remaining(seconds) {
  if (seconds == null) return "";
  if (seconds < 60) return `, about ${Math.max(1, seconds)} s left`;
  return `, about ${Math.round(seconds / 60)} min left`;
}

function duration(seconds) {
  const whole = Math.round(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (!parts[0]) parts.shift();
  return parts.map((part, index) => (index ? String(part).padStart(2, "0") : part)).join(":");
}

function size(bytes) {
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

function until(time) {
  return new Date(time).toLocaleString(undefined, { weekday: "short", hour: "2-digit", minute: "2-digit" });
}
