import { useLocale } from "../locale";

export function Empty() {
  const { text } = useLocale();
  return (
    <section class="empty" aria-labelledby="empty-title">
      <h2 id="empty-title">{text.emptyTitle}</h2>
      <p>{text.emptyText}</p>
      <pre>
        <code data-field="command">gpumon agent --hub {hubUrl(location)}</code>
      </pre>
      <p class="hint">{text.emptyJoin}</p>
      {isLoopback(location.hostname) && <p class="hint">{text.emptyLoopback}</p>}
    </section>
  );
}

/** This hub's address for an agent. The port is always told: an agent's default need not be the browser's. */
export function hubUrl(at: Pick<Location, "protocol" | "hostname" | "port" | "pathname">): string {
  const port = at.port === "" ? (at.protocol === "https:" ? "443" : "80") : at.port;
  const path = at.pathname.replace(/[^/]*$/, "").replace(/\/$/, "");
  return `${at.protocol}//${at.hostname}:${port}${path}`;
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "[::1]" || host.startsWith("127.");
}
