import type { Delivery } from "../../gen/heedwell/v1/notify_service_pb.js";
import { DeliveryState } from "../../gen/heedwell/v1/types_pb.js";
import { useSteps } from "../keys.js";
import { href } from "../route.js";
import { Time } from "../time.js";
import { State } from "../ui.js";
import { CHANNELS, KINDS, word } from "../words.js";
import type { Rows } from "./rows.js";
import { reason } from "./words.js";

interface Props {
  rows: Rows;
  opened: string;
  open: (delivery: Delivery) => void;
  caption: string;
  /** In a patient's view each row would say the same. */
  fixed?: boolean;
}

const ROW = "table.deliveries .row";

export function Table({ rows, opened, open, caption, fixed }: Props) {
  useSteps(ROW);
  return (
    <table class="deliveries">
      <caption class="unseen">{caption}</caption>
      <thead>
        <tr>
          <th scope="col" aria-sort="descending">
            Time
          </th>
          {!fixed && <th scope="col">Patient</th>}
          <th scope="col">Kind</th>
          <th scope="col">Channel</th>
          <th scope="col">Address</th>
          <th scope="col">Status</th>
          <th scope="col">Reason</th>
        </tr>
      </thead>
      <tbody>
        {rows.shown.map((delivery) => (
          <Row
            key={delivery.deliveryId}
            delivery={delivery}
            open={open}
            isOpen={delivery.deliveryId === opened}
            marked={rows.marked.has(delivery.deliveryId)}
            fixed={fixed}
          />
        ))}
      </tbody>
    </table>
  );
}

interface RowProps {
  delivery: Delivery;
  open: (delivery: Delivery) => void;
  isOpen: boolean;
  marked: boolean;
  fixed: boolean | undefined;
}

function Row({ delivery, open, isOpen, marked, fixed }: RowProps) {
  const kind = word(KINDS, delivery.kind);
  return (
    <tr class={`${isOpen ? "opened" : ""} ${marked ? "marked" : ""}`} onClick={() => open(delivery)}>
      <td data-label="Time">
        <button
          class="row"
          id={`row-${delivery.deliveryId}`}
          aria-expanded={isOpen}
          onClick={(event) => {
            event.stopPropagation();
            open(delivery);
          }}
        >
          <Time at={delivery.createTime} />
          <span class="unseen">
            {`, ${kind} to ${delivery.patientId || "an unknown number"}`}
          </span>
        </button>
      </td>
      {!fixed && (
        <td data-label="Patient">
          {delivery.patientId ? (
            <a href={href("patients", delivery.patientId)} onClick={(event) => event.stopPropagation()}>
              {delivery.patientId}
            </a>
          ) : (
            "Not linked"
          )}
        </td>
      )}
      <td data-label="Kind">{kind}</td>
      <td data-label="Channel">{word(CHANNELS, delivery.channel)}</td>
      <td data-label="Address">{delivery.addressHint || <span class="dim">–</span>}</td>
      <td data-label="Status">
        <State state={delivery.state} />
      </td>
      <td data-label="Reason">
        <Reason delivery={delivery} />
      </td>
    </tr>
  );
}

export function Reason({ delivery }: { delivery: Delivery }) {
  const { state, nextActionTime, possibleDuplicate, retryOfDeliveryId, retryDeliveryId } = delivery;
  return (
    <>
      {reason(delivery)}
      {state === DeliveryState.PENDING && nextActionTime && (
        <>
          Next attempt <Time at={nextActionTime} />
        </>
      )}
      {retryOfDeliveryId && <span class="tag">Sent again</span>}
      {retryDeliveryId && <span class="tag">Was sent again</span>}
      {possibleDuplicate && <span class="tag warn">May have arrived twice</span>}
    </>
  );
}
