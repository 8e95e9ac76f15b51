// What is left of a view that has failed: the reason, and a way back. The shell around it goes on.
import { Component, type ReactNode } from "react";
import { Button } from "~/components/Button";
import { ErrorState } from "~/components/EmptyState";

interface Props {
  /** A change of this forgets the error: another view is opened. */
  resetKey: string;
  children: ReactNode;
}

interface State {
  error: unknown;
  failed: boolean;
  resetKey: string;
}

/** A chunk that is gone: the server was updated while the page was open. */
function isStaleBuild(error: unknown): boolean {
  return error instanceof Error && /dynamically imported module|Importing a module script/i.test(error.message);
}

export class ErrorBoundary extends Component<Props, State> {
  override state: State = { error: null, failed: false, resetKey: this.props.resetKey };

  static getDerivedStateFromError(error: unknown): Partial<State> {
    return { error, failed: true };
  }

  static getDerivedStateFromProps(props: Props, state: State): Partial<State> | null {
    return props.resetKey === state.resetKey ? null : { error: null, failed: false, resetKey: props.resetKey };
  }

  override render(): ReactNode {
    const { error, failed } = this.state;
    if (!failed) return this.props.children;
    if (isStaleBuild(error)) {
      return (
        <div className="flex flex-col items-center gap-3">
          <ErrorState title="The dashboard has been updated" error="Reload the page to get the new version." />
          <Button icon="refresh" weight="primary" onClick={() => location.reload()}>
            Reload
          </Button>
        </div>
      );
    }
    return (
      <ErrorState
        title="This view has failed"
        error={error}
        onRetry={() => this.setState({ error: null, failed: false })}
      />
    );
  }
}
