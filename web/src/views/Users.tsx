import { useMemo } from "preact/hooks";

import { NO_FILTERS } from "../filter";
import { isPrivate } from "../fleet";
import { useLocale } from "../locale";
import { useSteady } from "../steady";
import type { Store } from "../store";
import { type Usage, usageOf } from "../users";
import { Bar, Dash, Told } from "./parts";

const MOST_PLACES = 8;

/** Who uses how many GPUs, how much of their memory, how well, and where. */
export function Users({ store }: { store: Store }) {
  const { text } = useLocale();
  const found = useMemo(() => store.calm(() => usageOf(store.shown.value)), [store]);
  const areHidden = useMemo(() => store.calm(() => areUsersHidden(store)), [store]);
  const usage = found.value;
  const { items, hold } = useSteady(usage, ({ user }) => user ?? "");
  if (!store.loaded.value) return <p class="loading">{text.loading}</p>;
  if (areHidden.value && usage.every(({ user }) => user === null)) return <p class="loading">{text.login.privateUsers}</p>;
  if (usage.length === 0) return <p class="loading">{text.nobody}</p>;
  return (
    <table class="fleet users" aria-label={text.tab.users}>
      <thead>
        <tr>
          {Object.entries(text.userColumn).map(([field, label]) => (
            <th key={field} scope="col" data-column={field}>
              {label}
            </th>
          ))}
        </tr>
      </thead>
      <tbody {...hold}>
        {items.map((one) => (
          <UserLine key={one.user ?? ""} usage={one} store={store} />
        ))}
      </tbody>
    </table>
  );
}

function areUsersHidden(store: Store): boolean {
  return store.entries.value.some(({ node }) => node.value.report?.gpus.some((gpu) => isPrivate(gpu, "user")) ?? false);
}

function UserLine({ usage, store }: { usage: Usage; store: Store }) {
  const { text, format } = useLocale();
  const { user, gpuCount, memoryBytes, meanUtilizationPercent: mean, places } = usage;
  const show = (): void => store.choose({ tab: "nodes", filters: { ...NO_FILTERS, user } });
  const more = places.length - MOST_PLACES;
  return (
    <tr data-user={user ?? ""}>
      <th scope="row" data-column="user">
        {user === null ? (
          text.unknownUser
        ) : (
          <button type="button" class="name" data-row={user} title={text.showUser} onClick={show}>
            {user}
          </button>
        )}
      </th>
      <td data-column="count">{format.count(gpuCount)}</td>
      <td data-column="memory">
        <Told sum={memoryBytes} show={format.bytes} />
      </td>
      <td data-column="utilization" data-label={text.userColumn.utilization}>
        {mean === null ? (
          <Dash why={text.reasonUnknown} />
        ) : (
          <span class="gauge">
            <Bar fraction={mean / 100} />
            <span class="number">{format.percent(mean)}</span>
          </span>
        )}
      </td>
      <td data-column="idle">
        <Idle usage={usage} store={store} />
      </td>
      <td data-column="places">
        {places
          .slice(0, MOST_PLACES)
          .map(({ alias, indices }) => `${alias}: ${indices.join(",")}`)
          .join(" · ")}
        {more > 0 && ` · ${text.moreOffers(format.count(more))}`}
      </td>
    </tr>
  );
}

function Idle({ usage, store }: { usage: Usage; store: Store }) {
  const { text, format } = useLocale();
  if (usage.idleSince === null) return null;
  const passed = format.duration(store.now.value - usage.idleSince);
  return <span class="is-warning">{text.idleFor(format.count(usage.idleCount), passed)}</span>;
}
