import { Component, type ReactNode } from "react";
import { CrashedState } from "@/components/States";

interface Props {
  children: ReactNode;
  /** Another value tries again, as when another screen is shown. */
  of: string;
}

/** Keeps a part's failure to itself: the rest of the page goes on. */
export class ErrorBoundary extends Component<Props, { error: unknown; of: string }> {
  override state = { error: undefined as unknown, of: this.props.of };

  static getDerivedStateFromError(error: unknown): { error: unknown } {
    return { error };
  }

  static getDerivedStateFromProps(props: Props, state: { of: string }): { error: undefined; of: string } | null {
    return props.of === state.of ? null : { error: undefined, of: props.of };
  }

  override render(): ReactNode {
    return this.state.error === undefined ? this.props.children : <CrashedState error={this.state.error} />;
  }
}
