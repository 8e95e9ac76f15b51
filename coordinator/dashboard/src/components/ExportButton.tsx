// A button for each form in which a view can be kept.
import { Button } from "./Button";
import { saveFile } from "./export";

interface ExportButtonProps {
  /** The file's name without its ending: "workers". */
  name: string;
  /** Made when the button is pressed. */
  csv?: () => string;
  json?: () => unknown;
  text?: () => string;
  disabled?: boolean;
}

export function ExportButton({ name, csv, json, text, disabled = false }: ExportButtonProps) {
  const stamp = () => `${name}-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}`;
  return (
    <>
      {csv === undefined ? null : (
        <Button icon="download" disabled={disabled} onClick={() => saveFile(`${stamp()}.csv`, "text/csv", csv())}>
          CSV
        </Button>
      )}
      {json === undefined ? null : (
        <Button
          icon="download"
          disabled={disabled}
          onClick={() => saveFile(`${stamp()}.json`, "application/json", `${JSON.stringify(json(), null, 2)}\n`)}
        >
          JSON
        </Button>
      )}
      {text === undefined ? null : (
        <Button icon="download" disabled={disabled} onClick={() => saveFile(`${stamp()}.txt`, "text/plain", text())}>
          Text
        </Button>
      )}
    </>
  );
}
