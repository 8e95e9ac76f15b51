// The form that starts a job: one field for each parameter that the chosen template declares, checked before it is sent.
import { type FormEvent, type ReactNode, useId, useState } from "react";
import type { CreateJob, JobTemplate } from "~/api/types";
import { Banner } from "~/components/Banner";
import { Button } from "~/components/Button";
import { Drawer } from "~/components/Drawer";
import { EmptyState } from "~/components/EmptyState";
import { Select } from "~/components/filters/Filters";
import { useSlice } from "~/data/context";
import { useCreateJob } from "~/data/queries";
import { freeName, nameProblem, type Parameter, parametersOf, readValue } from "./parameters";

interface StartJobProps {
  templates: readonly JobTemplate[];
  type: string;
  /** Names of jobs that are there. */
  taken: readonly string[];
  onType: (type: string) => void;
  onClose: () => void;
  onStarted: (id: string) => void;
}

export function StartJob({ templates, type, taken, onType, onClose, onStarted }: StartJobProps) {
  const template = templates.find((one) => one.type === type);
  return (
    <Drawer title="Start a job" onClose={onClose}>
      <div className="flex flex-col gap-4">
        <Select
          label="Template"
          options={templates.map((one) => ({ value: one.type, label: one.type }))}
          value={type}
          onChange={onType}
        />
        {template === undefined ? (
          <EmptyState icon="question" title={`The allow-list has no ${type}`}>
            Choose one of its templates above.
          </EmptyState>
        ) : (
          <TemplateForm key={template.type} template={template} taken={taken} onStarted={onStarted} />
        )}
      </div>
    </Drawer>
  );
}

interface TemplateFormProps {
  template: JobTemplate;
  taken: readonly string[];
  onStarted: (id: string) => void;
}

function TemplateForm({ template, taken, onStarted }: TemplateFormProps) {
  const parameters = parametersOf(template);
  const [name, setName] = useState(() => freeName(template.type, taken));
  const [workers, setWorkers] = useState("1");
  const [dataset, setDataset] = useState("");
  const [texts, setTexts] = useState<Readonly<Record<string, string>>>({});
  const [tried, setTried] = useState(false);
  const datasets = useSlice("datasets") ?? [];
  const create = useCreateJob();
  const suggestions = useId();

  const textOf = (parameter: Parameter) =>
    texts[parameter.name] ?? (parameter.kind === "bool" ? (parameter.fallback ?? "false") : "");
  const readings = parameters.map((parameter) => ({ parameter, reading: readValue(parameter, textOf(parameter)) }));
  const count = {
    name: "workers",
    kind: "int",
    least: 1,
    most: template.workers_max,
    fallback: null,
    words: "",
  } as const;
  const workersReading = readValue(count, workers);
  const nameWrong = nameProblem(name);
  const wrong = nameWrong !== "" || !workersReading.ok || readings.some(({ reading }) => !reading.ok);

  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (wrong || !workersReading.ok) return;
    const config: NonNullable<CreateJob["config"]> = Object.fromEntries(
      readings.flatMap(({ parameter, reading }) =>
        reading.ok && reading.value !== undefined ? [[parameter.name, reading.value]] : [],
      ),
    );
    const asked: CreateJob = {
      name,
      type: template.type,
      dataset_id: dataset,
      worker_count: Number(workersReading.value),
      config,
    };
    create.mutate(asked, { onSuccess: ({ task_id }) => onStarted(task_id) });
  };

  return (
    <form className="flex flex-col gap-4" noValidate onSubmit={submit}>
      <p className="text-sm text-ink-2">{template.description}</p>
      <Field label="Name" problem={tried ? nameWrong : ""} help="It names the job's workers and its folder.">
        {(field) => <Input {...field} value={name} onChange={setName} />}
      </Field>
      <Field
        label="Workers"
        problem={tried && !workersReading.ok ? workersReading.problem : ""}
        help={`from 1 to ${template.workers_max}`}
      >
        {(field) => (
          <Input {...field} value={workers} onChange={setWorkers} type="number" min={1} max={template.workers_max} />
        )}
      </Field>
      <Field label="Dataset" problem="" help="Its id, where the template uses one; may stay empty.">
        {(field) => <Input {...field} value={dataset} onChange={setDataset} list={suggestions} maxLength={256} />}
      </Field>
      <datalist id={suggestions}>
        {datasets.map((one) => (
          <option key={one.id} value={one.id} />
        ))}
      </datalist>
      {readings.map(({ parameter, reading }) => (
        <ParameterField
          key={parameter.name}
          parameter={parameter}
          text={textOf(parameter)}
          problem={tried && !reading.ok ? reading.problem : ""}
          onChange={(text) => setTexts({ ...texts, [parameter.name]: text })}
        />
      ))}
      {create.isError ? <Banner tone="danger">{create.error.message}</Banner> : null}
      {tried && wrong ? <Banner tone="warn">A value is not as it has to be: see the fields above.</Banner> : null}
      <div className="flex gap-2">
        <Button type="submit" weight="primary" icon="play" disabled={create.isPending}>
          {create.isPending ? "Starting…" : "Start the job"}
        </Button>
      </div>
    </form>
  );
}

interface ParameterFieldProps {
  parameter: Parameter;
  text: string;
  problem: string;
  onChange: (text: string) => void;
}

function ParameterField({ parameter, text, problem, onChange }: ParameterFieldProps) {
  const { name, kind, least, most, fallback, words } = parameter;
  if (kind === "bool") {
    return (
      <label className="flex items-start gap-2 text-sm text-ink">
        <input
          type="checkbox"
          className="mt-0.5 accent-accent"
          checked={text === "true"}
          onChange={(event) => onChange(String(event.target.checked))}
        />
        <span>
          <span className="font-medium">{name}</span>
          <span className="block text-xs text-ink-3">{words}</span>
        </span>
      </label>
    );
  }
  const numeric = kind === "int" || kind === "float";
  return (
    <Field label={name} problem={problem} help={words}>
      {(field) => (
        <Input
          {...field}
          value={text}
          onChange={onChange}
          {...(fallback === null ? {} : { placeholder: fallback })}
          {...(numeric ? { type: "number", step: kind === "int" ? 1 : "any" } : { maxLength: 256 })}
          {...(least === null ? {} : { min: least })}
          {...(most === null ? {} : { max: most })}
        />
      )}
    </Field>
  );
}

interface FieldLinks {
  id: string;
  "aria-describedby": string;
  "aria-invalid": boolean;
}

interface FieldProps {
  label: string;
  help: string;
  problem: string;
  children: (links: FieldLinks) => ReactNode;
}

function Field({ label, help, problem, children }: FieldProps) {
  const id = useId();
  return (
    <div className="flex flex-col gap-1">
      <label htmlFor={id} className="text-sm font-medium text-ink">
        {label}
      </label>
      {children({ id, "aria-describedby": `${id}-help`, "aria-invalid": problem !== "" })}
      <span id={`${id}-help`} className={`text-xs ${problem === "" ? "text-ink-3" : "text-danger"}`}>
        {problem === "" ? help : `${problem} (${help})`}
      </span>
    </div>
  );
}

interface InputProps extends FieldLinks {
  value: string;
  onChange: (value: string) => void;
  type?: string;
  list?: string;
  min?: number;
  max?: number;
  step?: number | string;
  maxLength?: number;
  placeholder?: string;
}

function Input({ onChange, type = "text", ...rest }: InputProps) {
  return (
    <input
      {...rest}
      type={type}
      autoComplete="off"
      spellCheck={false}
      onChange={(event) => onChange(event.target.value)}
      className="h-8 rounded-md border border-line-strong bg-surface px-2.5 text-sm text-ink placeholder:text-ink-3 aria-invalid:border-danger"
    />
  );
}
