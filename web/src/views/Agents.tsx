import { useSignal } from "@preact/signals";
import { useState } from "preact/hooks";

import type { Agency } from "../agents";
import { useLocale } from "../locale";
import type { Store } from "../store";
import type { JoinedAgent, WaitingAgent } from "../types";
import { Age } from "./parts";

interface Props {
  store: Store;
  agency: Agency;
}

/** Who would join, for an admin to admit or to turn away. */
export function Waiting({ store, agency }: Props) {
  const { text } = useLocale();
  const hasFailed = useSignal(false);
  const waiting = store.agents.value?.waiting ?? [];
  if (waiting.length === 0 || store.view.value.isKiosk) return null;

  async function tell(done: Promise<boolean>): Promise<void> {
    hasFailed.value = !(await done);
  }

  return (
    <section class="agents" aria-labelledby="waiting-title">
      <h2 id="waiting-title">{text.agents.waiting}</h2>
      <p class="hint">{text.agents.compare}</p>
      <ul>
        {waiting.map((one) => (
          <Waiter key={one.code} one={one} store={store} agency={agency} tell={(done) => void tell(done)} />
        ))}
      </ul>
      <p class="failure" role="alert">
        {hasFailed.value && text.agents.failed}
      </p>
    </section>
  );
}

function Waiter({
  one,
  store,
  agency,
  tell,
}: Props & { one: WaitingAgent; tell: (done: Promise<boolean>) => void }) {
  const { text } = useLocale();
  return (
    <li data-waiting={one.code}>
      <p>
        <strong>{one.node}</strong> {one.address !== null && <span>{one.address}</span>}{" "}
        <Age at={one.first_seen_at} now={store.now} sentence={text.agents.since} />
        {one.replaces !== null && <em> {text.agents.replaces}</em>}
      </p>
      <code data-field="code">{one.code}</code>
      <p class="choices">
        <button type="button" onClick={() => tell(agency.admit(one.code))} aria-label={text.agents.admitOne(one.node)}>
          {text.agents.admit}
        </button>
        <button type="button" onClick={() => tell(agency.revoke(one.code))} aria-label={text.agents.refuseOne(one.node)}>
          {text.agents.refuse}
        </button>
      </p>
    </li>
  );
}

/** Who has joined, for an admin to revoke. */
export function Joined({ store, agency }: Props) {
  const { text } = useLocale();
  const agents = store.agents.value;
  if (agents === null || agents.joined.length === 0) return null;
  return (
    <details class="agents" data-field="joined">
      <summary>{text.agents.joined(String(agents.joined.length))}</summary>
      <ul>
        {agents.joined.map((one) => (
          <Member key={one.code} one={one} store={store} agency={agency} />
        ))}
      </ul>
    </details>
  );
}

function Member({ one, store, agency }: Props & { one: JoinedAgent }) {
  const { text } = useLocale();
  // What cuts a node off takes a second press.
  const [isAsked, setAsked] = useState(false);
  const isRevoked = one.state === "revoked";
  return (
    <li data-joined={one.code}>
      <p>
        <strong>{one.node}</strong> {one.address !== null && <span>{one.address}</span>} {text.agents.state[one.state]}{" "}
        <Age at={one.revoked_at ?? one.admitted_at} now={store.now} sentence={(ago) => ago} />
      </p>
      <code data-field="code">{one.code}</code>
      <p class="choices">
        {isRevoked ? (
          <button type="button" onClick={() => void agency.admit(one.code)} aria-label={text.agents.admitOne(one.node)}>
            {text.agents.admit}
          </button>
        ) : (
          <button
            type="button"
            onBlur={() => setAsked(false)}
            onClick={() => {
              if (isAsked) void agency.revoke(one.code);
              setAsked(!isAsked);
            }}
            aria-label={isAsked ? text.agents.reallyRevokeOne(one.node) : text.agents.revokeOne(one.node)}
          >
            {isAsked ? text.agents.reallyRevoke : text.agents.revoke}
          </button>
        )}
      </p>
    </li>
  );
}
