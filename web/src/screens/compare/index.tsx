import { Screen } from "@/components/Screen";
import { EmptyState } from "@/components/States";
import { useText } from "@/i18n";

export default function Compare() {
  const text = useText();
  return (
    <Screen title={text.screens.compare}>
      <EmptyState title={text.app.notBuilt} />
    </Screen>
  );
}
