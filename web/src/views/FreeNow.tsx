import { useMemo } from "preact/hooks";

import { type Offer, offersOf } from "../filter";
import { useLocale } from "../locale";
import { sshLine, visibleDevices } from "../shell";
import { useSteady } from "../steady";
import type { Store } from "../store";
import { CopyButton } from "./Copy";

const MOST_OFFERS = 6;

/** The first question of all: which GPUs can be had, and where. The largest offers come first. */
export function FreeNow({ store }: { store: Store }) {
  const { text, format } = useLocale();
  const found = useMemo(
    () =>
      store.calm(() =>
        store.shown.value
          .flatMap((entry) => offersOf(entry.node.value, entry.matching.value ?? []))
          .sort((a, b) => b.gpus.length - a.gpus.length),
      ),
    [store],
  );
  const offers = found.value;
  const { items, hold } = useSteady(offers, keyOf);
  if (offers.length === 0) return null;
  const more = offers.length - MOST_OFFERS;
  return (
    <section class="free-now" aria-label={text.freeNow} {...hold}>
      <h2>{text.freeNow}</h2>
      <ul>
        {items.slice(0, MOST_OFFERS).map((offer) => (
          <OfferItem key={keyOf(offer)} offer={offer} />
        ))}
        {more > 0 && <li class="aside">{text.moreOffers(format.count(more))}</li>}
      </ul>
    </section>
  );
}

function keyOf({ node, model }: Offer): string {
  return `${node.name} ${model ?? ""}`;
}

function OfferItem({ offer: { node, model, gpus } }: { offer: Offer }) {
  const { text } = useLocale();
  const ssh = sshLine(node);
  return (
    <li data-offer={node.name}>
      <span class="offer">
        <strong>{gpus.length} ×</strong> {model ?? text.unknownModel}{" "}
        <span class="aside">
          {node.alias} ({gpus.map(({ index }) => index).join(",")})
        </span>
      </span>
      {ssh !== null && <CopyButton line={ssh}>ssh</CopyButton>}
      <CopyButton line={visibleDevices(gpus, node)}>CUDA</CopyButton>
    </li>
  );
}
